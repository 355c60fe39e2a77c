"""Prompts: the processor's own ids, generated turns spliced in as they are, keys that tell contents apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image

from dualfocus_eval.engines.base import Conversation, Counters, Message, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.image_inputs import ImageEncoder, ShownPicture
from dualfocus_eval.engines.rendering import Renderer
from dualfocus_eval.engines.template import ChatTemplate, RenderingError
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.harness.generation import GenerationLimits
from dualfocus_eval.harness.questions import chat_question
from dualfocus_eval.harness.requests import Request
from dualfocus_eval.method.conversations import macro_conversation

RED, BLUE = (Picture(Image.new("RGB", (50, 40), colour)) for colour in ("red", "blue"))


def renderer(checkpoint: Checkpoint) -> Renderer:
    encoder = ImageEncoder(checkpoint.model, checkpoint.processor, checkpoint.family, Counters())
    return Renderer(encoder, ChatTemplate.of(checkpoint))


def two_rounds(told: tuple[int, ...], image: Picture = RED, crop: Picture = BLUE) -> Conversation:
    return (
        Message("user", (image, "please provide the box")),
        Message("assistant", ("unused",), told),
        Message("user", (crop, "what colour is it")),
    )


def processor_ids(checkpoint: Checkpoint, messages: list[dict[str, Any]], pictures: Sequence[Image.Image]) -> list[int]:
    """What the processor makes of ``messages`` alone; a template that begins with the begin token has it once."""
    processor = checkpoint.processor
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    begin = processor.tokenizer.bos_token
    more = begin is None or not text.startswith(begin)
    inputs = processor(text=text, images=[list(pictures)], add_special_tokens=more, return_tensors="pt")
    ids: list[int] = inputs["input_ids"][0].tolist()
    return ids


@pytest.mark.parametrize("architecture", FAMILIES.items)
def test_ids_are_the_processors(checkpoint_of: Callable[..., Checkpoint], architecture: str) -> None:
    checkpoint = checkpoint_of(architecture)
    conversation = (Message("system", ("be brief",)), Message("user", (RED, "is there a cup")))
    prompt = renderer(checkpoint).render(conversation)
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a cup"}]},
    ]
    expected = processor_ids(checkpoint, messages, [RED.pixels])
    assert list(prompt.ids) == expected
    places = [n for n, token in enumerate(expected) if token == prompt.image_token]
    start, end = prompt.spans[0]
    assert places[0] >= start
    assert places[-1] < end
    assert tuple(expected[start:end]) == renderer(checkpoint).encoder.preprocess(ShownPicture(RED)).ids


MESSAGES = {
    "a text on each side": ["what colour has the ball in", RED, "on the left"],
    "the image last": ["is there a cup", RED],
    "two images": ["is there a cup in", RED, "or in", BLUE, "please"],
    "a mark": [RED, "is there a cup in <image> on the left"],
    "marks": [RED, BLUE, "<image> or <image>"],
}


@pytest.mark.parametrize("architecture", FAMILIES.items)
@pytest.mark.parametrize("name", MESSAGES)
def test_the_macro_prompt_is_what_the_template_makes_of_the_tasks_messages(
    checkpoint_of: Callable[..., Checkpoint], architecture: str, name: str
) -> None:
    given = MESSAGES[name]
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "url": part.pixels}
        for part in given
    ]
    messages = [{"role": "user", "content": content}]
    request = Request("t", "test", 0, "", lambda doc: messages, GenerationLimits(8, ()))
    question = chat_question(request, [{}], None)
    checkpoint = checkpoint_of(architecture)
    prompt = renderer(checkpoint).render(macro_conversation(question))

    if "mark" in name:  # as if the task had placed the images itself
        content = {
            "a mark": [text_part("is there a cup in "), {"type": "image"}, text_part(" on the left")],
            "marks": [{"type": "image"}, text_part("or"), {"type": "image"}],
        }[name]
    plain = [{"type": "image"} if part["type"] == "image" else part for part in content]
    pictures = [picture.pixels for picture in question.images]
    assert list(prompt.ids) == processor_ids(checkpoint, [{"role": "user", "content": plain}], pictures)
    assert [shown.picture.digest for shown in prompt.pictures] == [
        part.digest for part in given if isinstance(part, Picture)
    ]


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize("architecture", FAMILIES.items)
def test_a_second_round_begins_with_the_first_and_its_answer(
    checkpoint_of: Callable[..., Checkpoint], architecture: str
) -> None:
    checkpoint = checkpoint_of(architecture)
    render = renderer(checkpoint).render
    first = render(two_rounds(())[:1])
    end = checkpoint.default_end_id
    told = (70, 71, 72)
    for generated in (told, (*told, end)):  # the end token is the template's to write
        second = render(two_rounds(generated))
        shown = second.ids[slice(*second.spans[0])]
        begun = (*first.ids[: first.spans[0][0]], *shown, *first.ids[first.spans[0][1] :])
        assert second.ids[: len(begun) + 3] == (*begun, *told)
        ends = [boundary.end for boundary in second.boundaries]
        assert ends == [second.spans[0][1], len(begun) + 2, len(begun) + 3, second.spans[1][1]]
    # The key under which generation leaves its states is the key that the second round asks for. Where the crop changes
    # what stands for the image, it is not.
    same = not checkpoint.family.tiles_by_count
    assert (begun == first.ids) == same
    assert (second.boundaries[0].key == first.boundaries[0].key) == same
    assert (second.boundaries[2].key == first.key_with(told)) == same
    assert (second.boundaries[1].key == first.key_with(told[:-1])) == same


def test_keys_tell_pictures_and_tokens_apart(llava: Checkpoint) -> None:
    render = renderer(llava).render
    prompts = [render(two_rounds(*rest)) for rest in [((70, 71),), ((70, 72),), ((70, 71), BLUE), ((70, 71), RED, RED)]]
    keys = [[boundary.key for boundary in prompt.boundaries] for prompt in prompts]
    assert keys[0][0] == keys[1][0] == keys[3][0] != keys[2][0]
    assert keys[0][2] == keys[3][2] != keys[1][2]
    assert len({chain[-1] for chain in keys}) == 4


def test_a_template_that_rewrites_turns_is_refused(llava: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    original = llava.processor.apply_chat_template

    def counting(messages: list[dict[str, Any]], **kwargs: Any) -> str:
        return f"{len(messages)} turns. {original(messages, **kwargs)}"

    monkeypatch.setattr(llava.processor, "apply_chat_template", counting)
    with pytest.raises(RenderingError) as caught:
        renderer(llava).render(two_rounds((70,)))
    assert caught.value.kind == "chat_template"


@pytest.mark.parametrize("architecture", ["qwen2_vl", "qwen2_5_vl"])
def test_rotary_positions_cover_the_whole_conversation(
    checkpoint_of: Callable[..., Checkpoint], architecture: str
) -> None:
    checkpoint = checkpoint_of(architecture)
    prompt = renderer(checkpoint).render(two_rounds((70, 71)))
    assert prompt.positions.shape == (3, len(prompt.ids))
    start, end = prompt.spans[0]
    # A picture takes as many positions as its longer side has merged patches, fewer than it has tokens.
    inputs = renderer(checkpoint).encoder.preprocess(ShownPicture(RED))
    _, rows, columns = inputs.tensors["image_grid_thw"][0].tolist()
    assert prompt.positions[:, end].tolist() == [start + max(rows, columns) // 2] * 3
    assert end - start == rows * columns // 4
    assert prompt.next_position < len(prompt.ids)
