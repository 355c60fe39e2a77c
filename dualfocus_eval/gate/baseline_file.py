"""A baseline as a file: JSON with a line per question, that says what it holds, so that nothing of it can be lost or
changed unseen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictFloat, StrictInt
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import json_text
from dualfocus_eval.common.old_names import current_settings
from dualfocus_eval.common.validation import CLOSED, validated
from dualfocus_eval.gate.baseline import Answer, Baseline, Provenance

__all__ = ["FORMAT", "load_baseline", "save_baseline"]

FORMAT = 2
"""2: with ``contents``, ``digest`` and a check in each row."""
_COLUMNS = ("doc_id", "question", "score", "gap", "text", "check")
_CHECK_DIGITS = 4
_MOST_QUESTIONS = 10**7
_NAMED = 3


@dataclass(frozen=True, config=CLOSED)
class _Contents:
    """What a task has to hold."""

    questions: Annotated[StrictInt, Field(ge=0, le=_MOST_QUESTIONS)]
    doc_ids: str
    """Ranges, as ``0-99, 120``."""

    def __post_init__(self) -> None:
        # Not `len`, which overflows for what no file should say.
        if sum(part.stop - part.start for part in self.ranges()) != self.questions:
            raise ValueError(f"{self.doc_ids:.60} are not {self.questions:,} questions")

    def ranges(self) -> list[range]:
        """Of document numbers. Raises ValueError for what `_contents_of` did not write."""
        parts = [part.split("-") for part in self.doc_ids.split(", ")] if self.doc_ids else []
        if not all(len(part) <= 2 and all(map(str.isdecimal, part)) for part in parts):
            raise ValueError(f"doc_ids: {self.doc_ids:.60} are no ranges of numbers, as 0-99, 120")
        return [range(int(part[0]), int(part[-1]) + 1) for part in parts]


@dataclass(frozen=True, config=CLOSED)
class _Row:
    """A question's line, in the order of its columns."""

    doc_id: Annotated[StrictInt, Field(ge=0)]
    question: str
    score: StrictFloat | None
    gap: StrictFloat | None
    text: str | None
    check: str


def _by_column(line: Any) -> Any:
    return dict(zip(_COLUMNS, line, strict=False)) if isinstance(line, list) and len(line) <= len(_COLUMNS) else line


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class _File(Provenance):
    """The whole file: where the answers come from, what it has to hold, and that."""

    format: StrictInt
    contents: Mapping[str, _Contents]
    digest: str
    columns: tuple[str, ...] = _COLUMNS
    tasks: Mapping[str, tuple[Annotated[_Row, BeforeValidator(_by_column)], ...]]

    def __post_init__(self) -> None:
        if not isinstance(self.environment.get("packages", {}), dict):
            raise ValueError("environment: packages are not an object")
        for task, rows in self.tasks.items():
            seen: set[int] = set()
            for number, row in enumerate(rows, 1):
                if row.doc_id in seen:
                    raise ValueError(f"tasks, {task} {number}: question {row.doc_id} stands there twice")
                seen.add(row.doc_id)

    @property
    def provenance(self) -> Provenance:
        return Provenance(**{entry.name: getattr(self, entry.name) for entry in fields(Provenance)})


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Write it so that a change of it can be read in a diff.

    Raises ``UserError`` where the file cannot be written.
    """
    contents = {name: _contents_of([answer.doc_id for answer in answers]) for name, answers in baseline.tasks.items()}
    head = {
        "format": FORMAT,
        **asdict(baseline.provenance),
        "contents": {name: asdict(of_task) for name, of_task in contents.items()},
        "digest": _digest(baseline, contents),
        "columns": _COLUMNS,
    }
    tasks = ",\n".join(
        f"  {json_text(name)}: [\n   " + ",\n   ".join(_line(answer) for answer in answers) + "\n  ]"
        for name, answers in baseline.tasks.items()
    )
    try:
        text = json_text(head, indent=1).removesuffix("\n}") + f',\n "tasks": {{\n{tasks}\n }}\n}}\n'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"baseline {path} cannot be written: {error}") from error


def load_baseline(path: Path) -> Baseline:
    """Read what `save_baseline` wrote.

    Raises ``UserError``, naming the file, for what is none, and for one that lacks tasks or questions or was changed
    since it was written, naming them.
    """
    file = _read(path)
    promised = {name: list(chain.from_iterable(of_task.ranges())) for name, of_task in file.contents.items()}
    baseline = Baseline(file.provenance, {name: tuple(map(_answer, rows)) for name, rows in file.tasks.items()})
    if not (baseline.questions or promised):
        raise UserError(f"baseline {path} has no questions; make one from a good run with --update")
    faults = [*_faults(promised, file.tasks)]
    if not faults and _digest(baseline, file.contents) != file.digest:
        faults = ["what it says of its run and its contents, or the order of its questions, was changed"]
    if faults:
        raise UserError(
            f"baseline {path} was changed after it was written: {'; '.join(faults)}; restore it from version control, "
            "or make a new one from a good run with --update"
        )
    # Only now: the digest is of the names under which it was written.
    settings = current_settings(file.settings)
    return replace(baseline, provenance=replace(baseline.provenance, settings=settings))


def _read(path: Path) -> _File:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"there is no baseline {path}; make it from a good run with --update") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"baseline {path} cannot be read: {error}") from error
    if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
        raise UserError(f"baseline {path} has format {content['format']!r}, this is {FORMAT}; renew it (--update)")
    try:
        return validated(_File, content, f"baseline {path}")
    except UserError as error:
        raise UserError(f"{error}; make a new one from a good run with --update") from None


def _faults(promised: Mapping[str, Sequence[int]], rows: Mapping[str, Sequence[_Row]]) -> Iterator[str]:
    """What tasks and rows are lost, added or changed."""
    for name, doc_ids in promised.items():
        if name not in rows:
            yield f"task {name} with its {len(doc_ids):,} questions is missing"
    for name, found in rows.items():
        expected, there = set(promised.get(name, ())), {row.doc_id for row in found}
        changed = [row.doc_id for row in found if row.check != _check(_answer(row)) and row.doc_id in expected]
        for doc_ids, what in (
            (sorted(expected - there), "are missing"),
            (sorted(there - expected), "were added"),
            (changed, "were changed"),
        ):
            if doc_ids:
                some = ", ".join(f"{name}/{doc_id}" for doc_id in doc_ids[:_NAMED])
                more = ", ..." if len(doc_ids) > _NAMED else ""
                yield f"{len(doc_ids):,} of the {len(expected):,} questions of {name} {what} ({some}{more})"


def _answer(row: _Row) -> Answer:
    return Answer(row.doc_id, row.question, row.text, _known(row.score), _known(row.gap))


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _line(answer: Answer) -> str:
    return json_text([*_values(answer), _check(answer)])


def _values(answer: Answer) -> list[Any]:
    gap = answer.gap if math.isnan(answer.gap) else float(f"{answer.gap:.2g}")
    numbers = (None if math.isnan(value) else float(value) for value in (answer.score, gap))
    return [answer.doc_id, answer.question, *numbers, answer.text]


def _check(answer: Answer) -> str:
    return _hash(json_text(_values(answer)))[:_CHECK_DIGITS]


def _digest(baseline: Baseline, contents: Mapping[str, _Contents]) -> str:
    """Of all that a baseline holds."""
    head = json.dumps(
        [asdict(baseline.provenance), {name: asdict(one) for name, one in contents.items()}], sort_keys=True
    )
    rows = [line for name, answers in baseline.tasks.items() for line in (json_text(name), *map(_line, answers))]
    return _hash("\n".join([head, *rows]))[:32]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _contents_of(doc_ids: Sequence[int]) -> _Contents:
    ranges: list[list[int]] = []
    for doc_id in sorted(doc_ids):
        if ranges and doc_id == ranges[-1][1] + 1:
            ranges[-1][1] = doc_id
        else:
            ranges.append([doc_id, doc_id])
    return _Contents(len(doc_ids), ", ".join(f"{low}-{high}" if high > low else f"{low}" for low, high in ranges))
