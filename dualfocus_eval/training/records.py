"""Training samples in LLaVA's format: one conversation with any number of images, one entry at a time, nothing cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.datasets.sources import json_records
from dualfocus_eval.method.marks import IMAGE_MARK, cut_at_marks
from dualfocus_eval.method.prompts import PROMPT_SETS

__all__ = ["Record", "Turn", "read_record", "read_records"]

Role = Literal["user", "assistant"]
_ROLES: Mapping[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_GROUNDING = tuple({prompt_set.grounding for prompt_set in PROMPT_SETS.values()})


@dataclass(frozen=True)
class Turn:
    """What one side says."""

    role: Role
    parts: tuple[str | None, ...]
    """Texts, and None for each of the record's images, in the sample's order; the chat template decides what becomes
    of that order, as it does when the model is evaluated (LLaVA-1.5's puts images first)."""

    @property
    def text(self) -> str:
        """All of it without the images."""
        return "".join(part for part in self.parts if part is not None)

    @property
    def images(self) -> int:
        """How many of the record's images it shows."""
        return self.parts.count(None)


@dataclass(frozen=True)
class Record:
    """One sample."""

    place: str
    """File and entry, for messages."""
    images: tuple[str, ...]
    """Below the source's image folder, in the order in which the turns show them."""
    sub_image: str | None
    """The last image, cut out by ``dualfocus data vg``: below the folder of the data file."""
    turns: tuple[Turn, ...]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The turns in transformers' chat format, with placeholders for the images."""
        return [{"role": turn.role, "content": [_content(part) for part in turn.parts]} for turn in self.turns]

    @property
    def grounding(self) -> tuple[bool, ...]:
        """Of every answer, whether it is A1: the answer to a Q1 in one of the paper's and the released prompt sets."""
        return tuple(any(text in question.text for text in _GROUNDING) for question in self.turns[::2])


def read_records(path: Path) -> Iterator[Record | Rejected]:
    """The samples of a JSON list, JSON lines or parquet file, and what is wrong with entries that are none.

    A file that breaks off gives the entries before that. Raises ``UserError`` where it has no entry at all.
    """
    rows = _parquet(path) if path.suffix == ".parquet" else json_records(path)
    count = 0
    try:
        for row in rows:
            count += 1
            yield row if isinstance(row, Rejected) else read_record(*row)
    except (UserError, OSError) as error:
        if not count:
            raise UserError(f"{path} cannot be read: {error}") from error
        yield Rejected(f"{path.name}, after entry {count}", f"the rest of the file cannot be read: {error}")
    if not count:
        raise UserError(f"{path} has no samples")


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", row
    except ArrowException as error:
        raise UserError(f"not a whole parquet file: {error}") from error


def read_record(place: str, entry: Mapping[str, Any]) -> Record | Rejected:
    """One entry: ``conversations`` with from and value, and ``image``, a name, a list of names, or nothing.

    An answer before the first question and a question after the last answer, which LLaVA's mix has, are left out.
    """
    try:
        images, sub_image = _image_names(entry)
        turns = _turns(entry.get("conversations"))
    except ValueError as error:
        return Rejected(place, str(error))
    shown = sum(turn.images for turn in turns)
    there = len(images) + (sub_image is not None)
    if shown != there:
        return Rejected(place, f"{shown} times {IMAGE_MARK} in the questions, but {there} images")
    return Record(place, images, sub_image, turns)


def _image_names(entry: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
    names, sub_image = (_present(entry.get(key)) for key in ("image", "sub_image"))
    names = names if isinstance(names, list) else [] if names is None else [names]
    for name in [*names, *([] if sub_image is None else [sub_image])]:
        if not isinstance(name, str) or not name:
            raise ValueError(f"image {name!r} is not a file name")
    return tuple(names), sub_image


def _present(name: Any) -> Any:
    """None for the ways of saying that there is no image; what is of a wrong type is none of them."""
    return None if name == "" else name


def _turns(conversation: Any) -> tuple[Turn, ...]:
    if not isinstance(conversation, list):
        raise ValueError(f"conversations is {_kind(conversation)}, not a list")
    turns = [_turn(number, entry) for number, entry in enumerate(conversation, 1)]
    if turns and turns[0].role == "assistant":
        turns = turns[1:]
    if turns and turns[-1].role == "user" and not turns[-1].images:
        turns = turns[:-1]
    for number, turn in enumerate(turns):
        role = ("user", "assistant")[number % 2]
        if turn.role != role:
            raise ValueError("human and gpt do not take turns")
        if role == "assistant" and (turn.images or not turn.text):
            raise ValueError(f"an answer has {IMAGE_MARK}" if turn.images else "an answer is empty")
    if not turns or len(turns) % 2:
        raise ValueError("the last question shows an image and has no answer" if turns else "no answer to learn")
    return tuple(turns)


def _turn(number: int, entry: Any) -> Turn:
    if not isinstance(entry, dict) or not {"from", "value"} <= entry.keys():
        raise ValueError(f"turn {number} has no from and value")
    speaker, text = entry["from"], entry["value"]
    role = _ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise ValueError(f"turn {number} is from {speaker!r}, not human or gpt")
    if not isinstance(text, str):
        raise ValueError(f"the value of turn {number} is {_kind(text)}, not text")
    if _SURROGATE.search(text):
        raise ValueError(f"the value of turn {number} has half a character (a lone surrogate)")
    return Turn(role, _parts(text))


_KINDS: Mapping[type, str] = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}


def _kind(value: Any) -> str:
    return (
        "null" if value is None else "true or false" if isinstance(value, bool) else _KINDS.get(type(value), "binary")
    )


def _parts(text: str) -> tuple[str | None, ...]:
    """``text`` at its image marks; the last part of a turn of images alone is an empty text."""
    parts = cut_at_marks(text.strip())
    return parts if any(part is not None for part in parts) else (*parts, "")


def _content(part: str | None) -> dict[str, str]:
    return {"type": "image"} if part is None else {"type": "text", "text": part}
