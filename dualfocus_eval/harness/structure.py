"""What a task's YAML says of its documents, so that stem, hint and options need not be read out of the prompt.

``metadata: {dualfocus: {stem: COLUMN, hint: COLUMN, options: [COLUMN, ...], answer: KIND}}``; all may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.harness.task_functions import is_blank
from dualfocus_eval.method.question import AnswerKind

__all__ = ["Structure", "read_structure"]

KEYS = ("stem", "hint", "options", "answer", "prepared")
"""``prepared`` is for ``dualfocus_eval.harness.task_index``."""


@dataclass(frozen=True)
class Structure:
    """Columns of a task's documents, and the form of its answers."""

    stem: str | None = None
    hint: str | None = None
    options: tuple[str, ...] = ()
    """A column per option, in the order of their letters, or one column that holds them all."""
    answer: AnswerKind | None = None

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

    def options_of(self, doc: Mapping[str, Any]) -> tuple[str, ...]:
        """Option texts; blank ones at the end, as of a question with fewer options than columns, are left out."""
        cells: list[Any] = []
        for column in self.options:
            value = doc.get(column)
            cells.extend(value if isinstance(value, list | tuple) else [value])
        while cells and is_blank(cells[-1]):
            cells.pop()
        return tuple("" if is_blank(cell) else str(cell).strip() for cell in cells)


def read_structure(metadata: Mapping[str, Any] | None, task: str) -> Structure:
    """The structure in a task's ``metadata``. Raises ``UserError`` naming the task and what is wrong."""
    values = (metadata or {}).get("dualfocus")
    if values is None:
        return Structure()
    where = f"task {task}, metadata.dualfocus"
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected keys with values, found {values!r}")
    refuse_unknown(values, KEYS, where, "key")
    answer, options = values.get("answer"), values.get("options", ())
    if answer is not None and answer not in list(AnswerKind):
        raise UserError(f"{where}: answer={answer!r} is not one of: {', '.join(AnswerKind)}")
    return Structure(
        stem=values.get("stem"),
        hint=values.get("hint"),
        options=(options,) if isinstance(options, str) else tuple(options),
        answer=None if answer is None else AnswerKind(answer),
    )
