"""What a task's YAML says of its documents, so that stem, hint and options need not be read out of the prompt.

``metadata: {dualfocus: {stem: COLUMN, hint: COLUMN, options: [COLUMN, ...], answer: KIND, ...}}``; all may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, StrictBool
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.geometry import Box, Size
from dualfocus_eval.common.validation import CLOSED, validated
from dualfocus_eval.harness.task_functions import is_blank
from dualfocus_eval.method.question import AnswerKind

__all__ = ["Structure", "read_structure"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


@dataclass(frozen=True, config=CLOSED)
class Structure:
    """Columns of a task's documents, the form of its answers, and where its documents come from."""

    stem: str | None = None
    """The bare question."""
    hint: str | None = None
    """A text that goes before the question."""
    options: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """A column per option, in the order of their letters, or one column that holds them all."""
    box: str | None = None
    """A column with the box in which the answer is to be seen, [x1, y1, x2, y2] in pixels of the image."""
    answer: AnswerKind | None = None
    grouped_rows: StrictBool = False
    """Whether several rows make one question, as in circular evaluation, so that a part of the rows scores too high."""
    prepared: str | None = None
    """``BENCHMARK/SPLIT`` of the prepared files (`dualfocus data prepare`)."""

    def __post_init__(self) -> None:
        if self.prepared is not None and self.prepared.count("/") != 1:
            raise ValueError(f"prepared={self.prepared!r} is not BENCHMARK/SPLIT")

    def stem_of(self, doc: Mapping[str, Any]) -> str | None:
        """The bare question; None where the document does not say."""
        value = doc.get(self.stem) if self.stem is not None else None
        return None if value is None else str(value).strip()

    def hint_of(self, doc: Mapping[str, Any]) -> str | None:
        """The hint, empty for a document without one; None where documents have none."""
        if self.hint is None:
            return None
        value = doc.get(self.hint)
        return "" if is_blank(value) else str(value).strip()

    def truth_of(self, doc: Mapping[str, Any], size: Size) -> Box | None:
        """The box of the data set in an image of ``size``; None for a document without a usable one."""
        value = doc.get(self.box) if self.box is not None else None
        try:
            x1, y1, x2, y2 = (float(number) for number in value or ())
        except (TypeError, ValueError):
            return None
        width, height = size
        box = Box(x1 / width, y1 / height, x2 / width, y2 / height)
        return box if 0 <= box.x1 < box.x2 <= 1 and 0 <= box.y1 < box.y2 <= 1 else None

    def options_of(self, doc: Mapping[str, Any]) -> tuple[str, ...]:
        """Option texts; blank ones at the end, as of a question with fewer options than columns, are left out."""
        cells: list[Any] = []
        for column in self.options:
            value = doc.get(column)
            cells.extend(value if isinstance(value, list | tuple) else [value])
        while cells and is_blank(cells[-1]):
            cells.pop()
        return tuple("" if is_blank(cell) else str(cell).strip() for cell in cells)


def read_structure(metadata: Any, task: str) -> Structure:
    """The structure in a task's ``metadata``. Raises ``UserError`` naming the task and what is wrong."""
    values = metadata.get("dualfocus") if isinstance(metadata, Mapping) else None
    return Structure() if values is None else validated(Structure, values, f"task {task}, metadata.dualfocus")
