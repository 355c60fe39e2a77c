"""Conversations to token ids, and which of them the assistant generates: what training is on.

The chat template says it: everything between its generation markers, each answer's end token included.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.families import Family
from dualfocus_eval.training.records import Record

__all__ = ["IGNORED", "Encoded", "encode", "render", "training_processor"]

IGNORED = -100
"""Label of a token that is no target."""
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Rendered:
    """A conversation in tokens, every image one; all arrays (tokens,)."""

    ids: NDArray[np.int64]
    spoken: NDArray[np.bool_]
    """What the assistant generates."""
    turns: NDArray[np.int64]
    """Number of the answer that a token is of, or leads to; after the last answer, the number of answers."""
    image_token: int

    def expanded(self, values: NDArray[Any], image_tokens: Sequence[int]) -> NDArray[Any]:
        """``values`` (tokens,) with those of image k repeated ``image_tokens[k]`` times. Raises ``ValueError``."""
        repeats = np.ones(len(self.ids), dtype=np.int64)
        places = self.ids == self.image_token
        if int(places.sum()) != len(image_tokens):
            raise ValueError(f"{int(places.sum())} image tokens in the text for {len(image_tokens)} images")
        repeats[places] = image_tokens
        return np.repeat(values, repeats)


def render(processor: Any, messages: Messages) -> Rendered:
    """``messages`` through the processor's chat template, which marks what the assistant generates."""
    tokenizer = processor.tokenizer
    # The processor can return this mask too, but walks over every character offset of every image token for it.
    text = tokenizer.apply_chat_template(
        list(messages), chat_template=processor.chat_template, return_dict=True, return_assistant_tokens_mask=True
    )
    head = _beginning(tokenizer, text["input_ids"])
    ids = np.array([*head, *text["input_ids"]], dtype=np.int64)
    spoken = np.array([*(0 for _ in head), *text["assistant_masks"]], dtype=bool)
    starts = spoken & ~np.concatenate([[False], spoken[:-1]])
    return Rendered(ids, spoken, starts.cumsum() - spoken, int(processor.image_token_id))


def _beginning(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """What the tokenizer puts before every text and the template did not: the token that begins a sequence."""
    begin = tokenizer.bos_token_id
    if begin is None or ids[:1] == [begin] or tokenizer("a")["input_ids"][0] != begin:
        return []
    return [begin]


@dataclass(frozen=True, eq=False)
class Encoded:
    """One sample for the model; all arrays (length,), images expanded."""

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    """The token itself where it is a target, else `IGNORED`."""
    grounding: NDArray[np.bool_]
    """Targets that are of a box, A1."""


def encode(processor: Any, record: Record, image_tokens: Sequence[int]) -> Encoded:
    """``record`` with a loss on its answers only (Eq. 4), its images taking ``image_tokens`` tokens each.

    ``processor`` comes from `training_processor`. Raises ``ValueError`` where the text imitates the template's tokens.
    """
    rendered = render(processor, record.messages)
    boxes = np.array([*record.grounding, False])
    if int(rendered.turns.max()) >= len(boxes):
        raise ValueError("the chat template marks more answers than there are")
    return Encoded(
        rendered.expanded(rendered.ids, image_tokens),
        rendered.expanded(np.where(rendered.spoken, rendered.ids, IGNORED), image_tokens),
        rendered.expanded(rendered.spoken & boxes[rendered.turns], image_tokens),
    )


def training_processor(processor: Any, family: Family, name: str) -> Any:
    """``processor`` with a chat template that marks answers: the checkpoint's own, or its family's.

    The family's must say what the checkpoint's says, but for the end tokens and spaces after an answer. Raises
    ``UserError`` where it does not, or there is none.
    """
    if family.engine == "generate":
        raise UserError(
            f"{name}: training needs to know which weights are the vision tower's, and model_type "
            f"{family.model_type!r} has no family that says so; docs/extending.md shows how to add one"
        )
    if processor.chat_template is None:
        processor.chat_template = processor.tokenizer.chat_template
    if processor.chat_template is None:
        raise UserError(f"{name}: no chat template; add chat_template.jinja to the checkpoint")
    _refuse_marked_images(processor, family, name)
    if _marks_answers(processor):
        return processor
    trained = copy.copy(processor)
    trained.chat_template = family.training_template
    advice = (
        "put {% generation %} and {% endgeneration %} into its chat_template.jinja around each answer and its end token"
    )
    if family.training_template is None:
        raise UserError(f"{name}: the chat template does not mark answers; {advice}")
    if not _marks_answers(trained) or not _says_the_same(trained, processor):
        raise UserError(
            f"{name}: the chat template does not mark answers, and says otherwise than that of {family.model_type} "
            f"which does; {advice}"
        )
    return trained


def _refuse_marked_images(processor: Any, family: Family, name: str) -> None:
    """Raise ``UserError`` where an image takes more than image tokens, as many as it alone decides: see `encode`."""
    inputs = image_inputs(processor, Image.new("RGB", (64, 48)))
    if family.tiles_by_count or inputs.before or inputs.after or set(inputs.ids) != {inputs.token_id}:
        reason = (
            "depends on its conversation's other images" if family.tiles_by_count else "has markers among its tokens"
        )
        raise UserError(
            f"{name}: fine-tuning is not supported for {family.model_type}: what stands for an image {reason}"
        )


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


_PROBES: tuple[Messages, ...] = (
    (
        {"role": "user", "content": [{"type": "image"}, _text("Where is it?")]},
        {"role": "assistant", "content": [_text("[0.10, 0.20, 0.30, 0.40]")]},
        {"role": "user", "content": [{"type": "image"}, _text("What is it?")]},
        {"role": "assistant", "content": [_text("a cup")]},
    ),
    (
        {"role": "user", "content": [_text("Is it?")]},
        {"role": "assistant", "content": [_text("No.")]},
    ),
)
_STRINGS: Messages = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is it?"},
    {"role": "assistant", "content": "No."},
)
"""A conversation that some templates take as well: contents that are no lists of parts."""


def _marks_answers(processor: Any) -> bool:
    """Whether each answer of a probe is marked from its beginning to an end token."""
    tokenizer = processor.tokenizer
    if "endgeneration" not in processor.chat_template:
        return False
    for messages in _PROBES:
        rendered = render(processor, messages)
        answers = [message["content"][0]["text"] for message in messages if message["role"] == "assistant"]
        if int(rendered.turns.max()) != len(answers) - bool(rendered.spoken[-1]):
            return False
        for number, answer in enumerate(answers):
            marked = rendered.ids[rendered.spoken & (rendered.turns == number)]
            if marked[-1] != tokenizer.eos_token_id or tokenizer.decode(marked[:-1]).strip() != answer:
                return False
    return True


def _says_the_same(trained: Any, own: Any) -> bool:
    """Whether two processors' templates agree, where the checkpoint's ``own`` says anything."""
    probes = [*_PROBES, _STRINGS] if _takes_strings(own) else _PROBES
    return all(_plain(trained, messages) == _plain(own, messages) for messages in probes)


def _takes_strings(processor: Any) -> bool:
    """Templates that do not, like llava-hf's, drop them without a word or fail."""
    try:
        _, whole = _plain(processor, _STRINGS)
    except TemplateError:
        return False
    return "Isit?" in whole


def _plain(processor: Any, messages: Messages) -> tuple[str, str]:
    """The prompt that the first turn makes, and the whole without end tokens and white space."""
    prompt = processor.apply_chat_template(list(messages[:1]), tokenize=False, add_generation_prompt=True)
    whole = processor.apply_chat_template(list(messages), tokenize=False)
    return prompt, "".join(whole.replace(processor.tokenizer.eos_token, "").split())
