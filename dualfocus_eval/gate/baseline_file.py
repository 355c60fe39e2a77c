"""A baseline as a file: JSON with a line per question, that says what it holds, so that nothing of it can be lost or
changed unseen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import json_text
from dualfocus_eval.common.old_names import current_settings
from dualfocus_eval.gate.baseline import Answer, Baseline, Provenance
from dualfocus_eval.traces.decoding import decoder

__all__ = ["FORMAT", "load_baseline", "save_baseline"]

FORMAT = 2
"""2: with ``contents``, ``digest`` and a check in each row."""
_COLUMNS = ("doc_id", "question", "score", "gap", "text", "check")
_CHECK_DIGITS = 4
_MOST_QUESTIONS = 10**7
_NAMED = 3


@dataclass(frozen=True)
class _Contents:
    """What a task has to hold."""

    questions: int
    doc_ids: str
    """Ranges, as ``0-99, 120``."""


@dataclass(frozen=True)
class _Row:
    """A question's line, in the order of its columns."""

    doc_id: int
    question: str
    score: float | None
    gap: float | None
    text: str | None
    check: str


_provenance, _contents, _row = decoder(Provenance), decoder(_Contents), decoder(_Row)


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
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"there is no baseline {path}; make it from a good run with --update") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"baseline {path} cannot be read: {error}") from error
    try:
        if content["format"] != FORMAT:
            raise UserError(f"baseline {path} has format {content['format']!r}, this is {FORMAT}; renew it (--update)")
        provenance = _provenance({name: content[name] for name in Provenance.__dataclass_fields__})
        if not isinstance(provenance.environment.get("packages", {}), dict):
            raise TypeError("environment: packages are not an object")
        contents = {name: _contents(of_task) for name, of_task in content["contents"].items()}
        promised = {name: _doc_ids(of_task) for name, of_task in contents.items()}
        rows = {name: _rows(name, lines) for name, lines in content["tasks"].items()}
        digest = str(content["digest"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is no baseline: {type(error).__name__}: {error}; make one with --update") from error
    baseline = Baseline(provenance, {name: tuple(map(_answer, of_task)) for name, of_task in rows.items()})
    if not (baseline.questions or promised):
        raise UserError(f"baseline {path} has no questions; make one from a good run with --update")
    faults = [*_faults(promised, rows)]
    if not faults and _digest(baseline, contents) != digest:
        faults = ["what it says of its run and its contents, or the order of its questions, was changed"]
    if faults:
        raise UserError(
            f"baseline {path} is not as it was written: {'; '.join(faults)}; take it back from version control, or "
            "make it anew from a good run with --update"
        )
    # Only now: the digest is of the names under which it was written.
    return replace(baseline, provenance=replace(provenance, settings=current_settings(provenance.settings)))


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


def _rows(task: str, lines: Sequence[Sequence[Any]]) -> list[_Row]:
    rows: dict[int, _Row] = {}
    for number, values in enumerate(lines, 1):
        try:
            row = _row(dict(zip(_Row.__dataclass_fields__, values, strict=True)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"task {task}, row {number}: {error}") from None
        if row.doc_id in rows:
            raise ValueError(f"task {task}, row {number}: question {row.doc_id} stands there twice")
        rows[row.doc_id] = row
    return list(rows.values())


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


def _doc_ids(contents: _Contents) -> list[int]:
    """The inverse of `_contents_of`. Raises ValueError for what that did not write."""
    parts = [part.split("-") for part in contents.doc_ids.split(", ")] if contents.doc_ids else []
    ranges = [(int(part[0]), int(part[-1])) for part in parts]
    questions = sum(high - low + 1 for low, high in ranges)
    if questions != contents.questions or questions > _MOST_QUESTIONS:
        raise ValueError(f"contents: {contents.doc_ids:.60} are not {contents.questions:,} questions")
    return [doc_id for low, high in ranges for doc_id in range(low, high + 1)]
