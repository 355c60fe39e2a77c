"""The inspector's page of two runs of the same questions, which opens with those whose score differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from dualfocus_eval.analysis.cards import Card, cards_of
from dualfocus_eval.analysis.outcomes import OUTCOME_WORDS
from dualfocus_eval.analysis.pairing import changed_engine, changed_settings
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.files import writing_out
from dualfocus_eval.report.folder import take_folder
from dualfocus_eval.report.inspector import Inspector, card_parts, run_values, searched
from dualfocus_eval.report.inspector_data import Entry, Facet, Index, Range
from dualfocus_eval.report.kept_pictures import KEPT_FOLDER, kept_pictures

__all__ = ["write_pair"]

_CHANGES = {
    "b_better": "B scores higher",
    "b_worse": "B scores lower",
    "same_right": "same score, above 0",
    "same_wrong": "same score, 0",
    "unknown": "no score in A or B",
}
"""What becomes of a question from A to B; the first two are the flips."""
_FLIPS = ("b_better", "b_worse")
_NAMES = ("A", "B")


def write_pair(first: Run, second: Run, pairs: pd.DataFrame, title: str, out: Path) -> Path:
    """Write the page of the questions ``pairs`` (`pairing.pair_runs`) below ``out``; its file.

    Raises ``UserError`` where the folder cannot be written, or holds files of the same names that no report wrote.
    """
    pictures = kept_pictures(first, second)
    changed = [*changed_settings(first, second), *filter(None, [changed_engine(first, second)])]
    changes = [f"From A to B: {', '.join(changed)}"] if changed else []
    outcomes = {str(outcome): words for outcome, words in OUTCOME_WORDS.items()}
    index = Index(
        title=title,
        about=[*(f"{name}: {run.path}" for name, run in zip(_NAMES, (first, second), strict=True)), *changes],
        notes=pictures.notes,
        facets=[
            Facet("task", "Task"),
            Facet("change", "From A to B", _CHANGES, wanted=_FLIPS, wanted_words="the score differs"),
            *(Facet(f"outcome {name}", f"Outcome in {name}", outcomes) for name in _NAMES),
            Facet("category", "Category"),
            *(Facet(f"fallback {name}", f"Fallback in {name}") for name in _NAMES),
        ],
        ranges=[
            *(Range(f"gap{name}", f"Confidence gap in {name}, nats") for name in _NAMES),
            *(Range(f"area{name}", f"Box area in {name}, %", 100) for name in _NAMES),
        ],
        runs=[run_values(run, name) for name, run in zip(_NAMES, (first, second), strict=True)],
        pictures=KEPT_FOLDER if pictures.files else None,
    )
    inspector = Inspector(index, len(pairs), lambda: _entries(first, second, pairs, pictures.files), pictures.files)
    with writing_out(out):
        take_folder(out, inspector.files)
        return inspector.write(out)


def _entries(first: Run, second: Run, pairs: pd.DataFrame, pictures: Mapping[str, Path]) -> Iterator[Entry]:
    asked = set(pairs["key"])
    others = {card.key: card for card in cards_of(second) if card.key in asked}
    for card in cards_of(first):
        if card.key in asked:
            yield _entry(card, others.pop(card.key), pictures)


def _entry(card: Card, other: Card, pictures: Mapping[str, Path]) -> Entry:
    sides = (card, other)
    (question, one), (other_question, two) = (card_parts(side, pictures) for side in sides)
    return Entry(
        task=card.task,
        doc_id=card.doc_id,
        facets=(
            card.task,
            _change(card.score, other.score),
            *(str(side.outcome) for side in sides),
            card.categories,
            *(side.fallback for side in sides),
        ),
        ranges=(*(side.gap for side in sides), *(side.box.clipped().area if side.box else math.nan for side in sides)),
        texts=[*searched(card), *searched(other)],
        card=(question if card.image else other_question) | {"sides": [one, two]},
    )


def _change(before: float, after: float) -> str:
    if math.isnan(before) or math.isnan(after):
        return "unknown"
    if before != after:
        return "b_better" if after > before else "b_worse"
    return "same_right" if after > 0 else "same_wrong"
