"""``second_pass=fifth_patch``: the region as one more local patch, as plain transformers computes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaNextForConditionalGeneration

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Completion, Conversation, GenerateRequest, Message, Picture, Score, ScoreRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.harness.fitting import fitting_settings
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.settings import Settings
from tests.method.test_pipeline import ask, rule
from tests.scripted_engine import Answer, ScriptedEngine

SIZES = [(20, 20), (90, 24), (24, 90), (90, 90)]
"""(width, height) of images in pixels, of different grids."""
PROMPT = "what colour is the cup"


def picture(size: tuple[int, int], seed: int) -> Picture:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(Image.fromarray(noise))


IMAGES = [picture(size, seed) for seed, size in enumerate(SIZES)]
CROPS = [picture((14 + 3 * seed, 30), seed + 10) for seed in range(len(SIZES))]
CONVERSATIONS = [
    (Message("user", (Picture(image.pixels, crop), PROMPT)),) for image, crop in zip(IMAGES, CROPS, strict=True)
]


@torch.inference_mode()
def plain(checkpoint: Checkpoint, image: Picture, crop: Picture, tokens: int) -> tuple[list[int], torch.Tensor]:
    """Greedy ids and their log-probabilities, from hand-made pixels and embeddings.

    The image's tiles go through transformers' own `get_image_features`. The patch is the first tile that the processor
    makes of the crop, in the place of a whole image's, with the newline embedding after each row.
    """
    model, processor = checkpoint.model, checkpoint.processor
    assert isinstance(model, LlavaNextForConditionalGeneration)
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    whole = processor(text=text, images=[image.pixels], return_tensors="pt")
    whole["pixel_values"] = whole["pixel_values"].to(model.dtype)
    of_image = model.get_image_features(
        pixel_values=whole["pixel_values"], image_sizes=whole["image_sizes"]
    ).pooler_output[0]
    tile = processor.image_processor(crop.pixels, return_tensors="pt")["pixel_values"][:, 0].to(model.dtype)
    assert tile.shape == (1, 3, 24, 24)
    states = model.model.vision_tower(tile, output_hidden_states=True).hidden_states[-2][:, 1:]
    grid = model.model.multi_modal_projector(states)[0].view(4, 4, -1)
    of_patch = torch.cat([torch.cat([row, model.model.image_newline[None]]) for row in grid])
    ids = whole["input_ids"][0].tolist()
    last = len(ids) - ids[::-1].index(processor.image_token_id)
    embed = model.get_input_embeddings()
    features = torch.cat([of_image, of_patch])
    found: list[int] = []
    logprobs = []
    for _ in range(tokens):
        before = torch.tensor(ids[:last] + [processor.image_token_id] * len(of_patch) + ids[last:] + found)
        embeds = embed(before).masked_scatter((before == processor.image_token_id)[:, None], features)
        logits = model(inputs_embeds=embeds[None]).logits[0, -1].float()
        found.append(int(logits.argmax()))
        logprobs.append(torch.log_softmax(logits, dim=-1)[found[-1]])
        if found[-1] in checkpoint.end_ids:
            break
    return found, torch.stack(logprobs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
@pytest.mark.parametrize(("batch_size", "cache"), [(1, 1 << 26), (8, 1 << 26), (8, 0)])
def test_it_agrees_with_plain_transformers(
    checkpoint_of: Callable[..., Checkpoint], dtype: torch.dtype, tolerance: float, batch_size: int, cache: int
) -> None:
    checkpoint = checkpoint_of("llava_next", dtype)
    engine = TransformersEngine(checkpoint, batch_size, cache)
    for repeated in range(2):  # the second time from what is kept
        answers = engine.generate([GenerateRequest(conversation, 8) for conversation in CONVERSATIONS])
        for image, crop, conversation, found in zip(IMAGES, CROPS, CONVERSATIONS, answers, strict=True):
            ids, logprobs = plain(checkpoint, image, crop, 8)
            assert isinstance(found, Completion)
            assert list(found.token_ids) == ids, repeated
            torch.testing.assert_close(torch.tensor(found.logprobs), logprobs.float(), rtol=0, atol=tolerance)
            (score,) = engine.score([ScoreRequest(conversation, tuple(ids))])
            assert isinstance(score, Score)
            torch.testing.assert_close(torch.tensor(score.logprobs), logprobs.float(), rtol=0, atol=tolerance)


def test_the_image_is_encoded_once_and_its_states_are_reused(checkpoint_of: Callable[..., Checkpoint]) -> None:
    engine = TransformersEngine(checkpoint_of("llava_next"), 4, 1 << 26)
    image = IMAGES[3]
    macro = (Message("user", (image, "is there a cup")),)
    engine.generate([GenerateRequest(macro, 2), GenerateRequest((Message("user", (image, "please provide")),), 2)])
    to_image_end = engine._renderer.render(macro).boundaries[0].end
    before = engine.counters.tokens_reused
    engine.generate([GenerateRequest(CONVERSATIONS[3], 2)])
    assert engine.counters.tokens_reused - before == to_image_end
    assert engine.counters.images_encoded == 2
    spans = engine._renderer.render(CONVERSATIONS[3]).spans
    assert spans[0][1] == spans[1][0] == to_image_end
    assert spans[1][1] - spans[1][0] == 4 * 5


def test_another_patch_is_another_picture() -> None:
    image, crop, other = IMAGES[0], CROPS[0], CROPS[1]
    assert len({image, Picture(image.pixels, crop), Picture(image.pixels, other)}) == 3
    assert Picture(image.pixels, crop) == Picture(image.pixels.copy(), Picture(crop.pixels.copy()))


def test_the_second_pass_is_one_question_about_one_image() -> None:
    question, engine = ask(system="Be polite."), ScriptedEngine(lambda conversation: "[0.10, 0.20, 0.50, 0.60]")
    (trace,) = answer([question], engine, Settings(second_pass="fifth_patch", strategy="micro", margin=0))
    assert trace.second_pass == "fifth_patch"
    ((request,),) = engine.generated[1:]
    _, turn = request.conversation
    shown, prompt = turn.content
    (image,) = question.images
    assert prompt == question.prompt
    assert isinstance(shown, Picture)
    assert shown == Picture(image.pixels, Picture(image.pixels.crop((20, 0, 100, 80))))


def test_scores_are_taken_in_its_context() -> None:
    question = ask()

    def reply(conversation: Conversation) -> Answer:
        (shown, *_) = conversation[-1].content
        assert isinstance(shown, Picture)
        return "green" if shown.patch else rule()(conversation)

    engine = ScriptedEngine(reply)
    answer([question], engine, Settings(second_pass="fifth_patch"))
    ((request, _),) = engine.scored
    ((shown, prompt),) = (message.content for message in request.conversation)
    assert prompt == "Colour 0? Answer the question using a single word or phrase"
    assert isinstance(shown, Picture)
    assert shown.patch is not None


@pytest.mark.parametrize("architecture", ["llava", "qwen2_5_vl", "llava_onevision"])
def test_other_families_are_refused_by_name(checkpoint_of: Callable[..., Checkpoint], architecture: str) -> None:
    engine = TransformersEngine(checkpoint_of(architecture), 1, 0)
    said = f"^second_pass=fifth_patch: an image of model_type '{architecture}' has no local patches .* with llava_next,"
    with pytest.raises(UserError, match=said):
        fitting_settings(Settings(second_pass="fifth_patch"), engine)
    fitting_settings(Settings(second_pass="fifth_patch", strategy="macro"), engine)
    (failed,) = engine.generate([GenerateRequest(CONVERSATIONS[0], 2)])
    assert "has no local patches" in str(failed)


def test_llava_next_takes_it(checkpoint_of: Callable[..., Checkpoint]) -> None:
    settings = Settings(second_pass="fifth_patch")
    assert fitting_settings(settings, TransformersEngine(checkpoint_of("llava_next"), 1, 0)) == (settings, ())
