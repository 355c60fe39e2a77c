"""The reference of the exactness proof: plain transformers, one conversation at a time, without the engine."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from dualfocus_eval.engines.base import Completion, Conversation, GenerateRequest, Message, Picture, ScoreRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from measurements.random_models.parts import WORDS

__all__ = ["Reference", "plain_inputs", "reference"]

_KINDS = {"mm_token_type_ids", "token_type_ids"}
"""Arguments of models that tell an image's tokens from those of the text."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What plain transformers makes of the conversations: per request an answer and the gaps of its two best logits."""

    first: list[GenerateRequest]
    second: list[GenerateRequest]
    scores: list[ScoreRequest]
    answers: list[tuple[Completion, list[float]]]
    """Of ``first`` and then ``second``."""
    scored: list[list[float]]


def conversations(count: int, seed: int = 0) -> list[tuple[Conversation, Conversation, Picture, str]]:
    """Per question: the macro conversation, the grounding conversation, a crop, and the text of the second round."""
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)

    def picture() -> Picture:
        width, height = rng.randint(12, 90), rng.randint(12, 90)
        return Picture(Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)))

    def words(most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

    images = [picture() for _ in range(max(1, count // 3))]
    questions = []
    for _ in range(count):
        image = rng.choice(images)
        system = (Message("system", (words(6),)),) if rng.random() < 0.2 else ()
        macro = (*system, Message("user", (image, words(25))))
        grounding = (*system, Message("user", (image, "please provide " + words(12))))
        questions.append((macro, grounding, picture(), words(25)))
    return questions


def reference(checkpoint: Checkpoint, count: int, seed: int = 0, longest: int = 24) -> Reference:
    """Answer ``count`` questions in two passes, one conversation at a time, without the engine."""
    rng = random.Random(seed)
    first, second, scores = [], [], []
    answers, scored = [], []
    for macro, grounding, crop, text in conversations(count, seed):
        requests = [
            GenerateRequest(macro, rng.randint(1, longest)),
            GenerateRequest(grounding, rng.randint(2, longest)),
        ]
        pair = [_plain_generate(checkpoint, request) for request in requests]
        first += requests
        answers += pair
        told = Message("assistant", (pair[1][0].text,), pair[1][0].token_ids)
        request = GenerateRequest((*grounding, told, Message("user", (crop, text))), rng.randint(1, longest))
        second.append(request)
        # Two candidates after one prompt, as the pipeline asks for them.
        for continuation in (pair[0][0].token_ids, pair[1][0].token_ids[:5]):
            scores.append(ScoreRequest(request.conversation, continuation))
            scored.append(_plain_score(checkpoint, scores[-1]))
    answers += [_plain_generate(checkpoint, request) for request in second]
    return Reference(first, second, scores, answers, scored)


def plain_inputs(checkpoint: Checkpoint, conversation: Conversation) -> dict[str, torch.Tensor]:
    """Model inputs by the processor alone; a generated turn stands between the texts before and after it."""
    model = checkpoint.model
    prepare = _whole if checkpoint.family.engine == "generate" else _in_parts
    inputs = prepare(checkpoint, conversation)
    floats = {key: value.to(model.dtype) for key, value in inputs.items() if value.is_floating_point()}
    return {key: value.to(model.device) for key, value in (inputs | floats).items()}


def _text(checkpoint: Checkpoint, messages: Sequence[Message]) -> str:
    """The template's text, up to where the assistant goes on."""
    listed = [
        {
            "role": m.role,
            "content": [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in m.content],
        }
        for m in messages
    ]
    return str(checkpoint.processor.apply_chat_template(listed, tokenize=False, add_generation_prompt=True))


def _told(checkpoint: Checkpoint, turn: Message) -> list[int]:
    """The ids of a generated turn without an end token, which the template writes."""
    told = list(turn.token_ids or ())
    return told[:-1] if told and told[-1] in checkpoint.end_ids else told


def _generated_turn(conversation: Conversation) -> int | None:
    return next((index for index, message in enumerate(conversation) if message.token_ids is not None), None)


def _pixels(conversation: Conversation) -> list[Image.Image]:
    return [part.pixels for message in conversation for part in message.content if isinstance(part, Picture)]


def _in_parts(checkpoint: Checkpoint, conversation: Conversation) -> dict[str, torch.Tensor]:
    """What the processor makes of the text before a generated turn and of that after it, with the turn between.

    It gets all images of the conversation in one call: some prepare one alone otherwise than several.
    """
    processor, tokenizer = checkpoint.processor, checkpoint.processor.tokenizer
    pixels = _pixels(conversation)
    images = [pixels] if pixels else None
    turn = _generated_turn(conversation)
    if turn is None:
        text = _text(checkpoint, conversation)
        inputs = processor(text=text, images=images, return_tensors="pt", **_begins(checkpoint, text))
        ids = inputs["input_ids"]
    else:
        marked = [*conversation]
        marked[turn] = Message("assistant", ("MARKER",))
        before = _text(checkpoint, conversation[:turn])
        rest = _text(checkpoint, marked).split("MARKER")[1]
        inputs = processor(text=before + rest, images=images, return_tensors="pt", return_text_replacement_offsets=True)
        (replaced,) = inputs.pop("text_replacement_offsets")
        expanded = iter([found["replacement"] for found in replaced])
        image = re.compile(re.escape(processor.image_token))
        before, rest = (image.sub(lambda _: next(expanded), text) for text in (before, rest))
        first = tokenizer(before, **_begins(checkpoint, before))["input_ids"]
        last = tokenizer(rest, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*first, *_told(checkpoint, conversation[turn]), *last]])
    inputs = {key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")}
    for key in _KINDS & inputs.keys():
        inputs[key] = torch.isin(ids, torch.tensor(processor.image_token_ids)).int()
    return inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _begins(checkpoint: Checkpoint, text: str) -> dict[str, bool]:
    """As `apply_chat_template` itself does: no second begin token after that of the template."""
    begin = checkpoint.processor.tokenizer.bos_token
    return {"add_special_tokens": begin is None or not text.startswith(begin)}


_STAND_IN = "zzzzz"
"""A word that no text has, in place of a generated turn."""
_BY_TOKEN = ("input_ids", "attention_mask", "cross_attention_mask", "token_type_ids", "mm_token_type_ids")


def _whole(checkpoint: Checkpoint, conversation: Conversation) -> dict[str, torch.Tensor]:
    """What the processor makes of the whole text with a word in place of a generated turn, and the turn in its place.

    For processors that prepare images otherwise if they come alone, or that say of every token what it may attend to.
    """
    turn = _generated_turn(conversation)
    marked = [*conversation]
    if turn is not None:
        marked[turn] = Message("assistant", (_STAND_IN,))
    text = _text(checkpoint, marked)
    begins = text.startswith(checkpoint.processor.tokenizer.bos_token)
    inputs = dict(
        checkpoint.processor(
            text=[text], images=[_pixels(conversation)], add_special_tokens=not begins, return_tensors="pt"
        )
    )
    if turn is None:
        return inputs
    told = torch.tensor([_told(checkpoint, conversation[turn])], dtype=torch.long)
    word = checkpoint.processor.tokenizer(_STAND_IN, add_special_tokens=False)["input_ids"]
    ids = inputs["input_ids"][0].tolist()
    (place,) = [at for at in range(len(ids)) if ids[at : at + len(word)] == word]
    for name in _BY_TOKEN:
        if name in inputs:
            value = inputs[name]  # (1, tokens, ...)
            middle = value[:, place : place + 1].expand(-1, told.shape[1], *value.shape[2:])
            between = told if name == "input_ids" else middle
            inputs[name] = torch.cat([value[:, :place], between, value[:, place + len(word) :]], dim=1)
    return inputs


@torch.inference_mode()
def _plain_generate(checkpoint: Checkpoint, request: GenerateRequest) -> tuple[Completion, list[float]]:
    inputs = plain_inputs(checkpoint, request.conversation)
    output = checkpoint.model.generate(
        **inputs,
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(checkpoint.end_ids),
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    scores = torch.cat(output.scores)  # (tokens, vocabulary)
    logprobs = torch.log_softmax(scores, dim=-1)[torch.arange(len(ids)), ids].tolist()
    best = scores.topk(2).values
    gaps = (best[:, 0] - best[:, 1]).tolist()
    text = checkpoint.processor.tokenizer.decode(ids, skip_special_tokens=True)
    finish = "eos" if ids[-1] in checkpoint.end_ids else "length"
    return Completion(text, tuple(ids), tuple(logprobs), finish, min(gaps)), gaps


@torch.inference_mode()
def _plain_score(checkpoint: Checkpoint, request: ScoreRequest) -> list[float]:
    inputs = plain_inputs(checkpoint, request.conversation)
    told = torch.tensor([request.continuation], device=checkpoint.model.device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], told], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for key in _KINDS & inputs.keys():
        inputs[key] = torch.nn.functional.pad(inputs[key], (0, told.shape[1]))
    if "cross_attention_mask" in inputs:
        latest = inputs["cross_attention_mask"][:, -1:]
        inputs["cross_attention_mask"] = torch.cat([inputs["cross_attention_mask"], *[latest] * told.shape[1]], dim=1)
    logits = checkpoint.model(**inputs).logits[0, -told.shape[1] - 1 : -1].float()
    return torch.log_softmax(logits, dim=-1).gather(1, told[0].unsqueeze(1))[:, 0].tolist()
