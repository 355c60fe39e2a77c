"""Two runs side by side: the table of differences, and the questions whose score differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dualfocus_eval.analysis.intervals import Estimate
from dualfocus_eval.analysis.measures import scale_notes, shown
from dualfocus_eval.analysis.pairing import Comparison
from dualfocus_eval.common.escaping import clipped, csv_cell
from dualfocus_eval.common.tables import Number, Table

__all__ = ["comparison_table", "flip_tables", "flips_of", "write_flips"]

_SHOWN = 10
"""Flips of a direction in a table."""


def comparison_table(title: str, unit: str, comparisons: Sequence[Comparison]) -> Table:
    """A row per comparison; what the columns mean, and what was left out, in the notes."""
    rows = tuple(
        (
            found.name,
            found.questions,
            found.images,
            shown(Estimate(found.first, math.nan, math.nan), share=found.share),
            shown(Estimate(found.second, math.nan, math.nan), share=found.share),
            replace(shown(found.difference, share=found.share, unit="points"), signed=True),
            found.test.better,
            found.test.worse,
            Number(found.test.p_two_sided, decimals=4),
            Number(found.p_adjusted, decimals=4),
        )
        for found in comparisons
    )
    tested = sum(found.questions > 0 for found in comparisons)
    unscored = "; ".join(f"{found.name}: {found.unscored:,}" for found in comparisons if found.unscored)
    notes = (
        "B - A in points with its 95% interval (bootstrap over whole images). p: McNemar's test, two-sided, by "
        f"image. p Holm: adjusted for the number of rows ({tested}).",
        "The score of each question is compared: MMBench by row, not by circular question, and POPE by accuracy.",
        *scale_notes([found.name for found in comparisons if not found.share]),
        *([f"Not compared, because a run has no score: {unscored}."] if unscored else ()),
    )
    header = (unit, "n", "images", "A %", "B %", "B - A", "B better", "B worse", "p", "p Holm")
    return Table(title, header, (rows,), notes)


def flips_of(pairs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `pairing.pair_runs` whose two scores are known and differ."""
    return pairs[pairs["score_first"] != pairs["score_second"]].dropna(subset=["score_first", "score_second"])


def flip_tables(flips: pd.DataFrame) -> list[Table]:
    """A table of each direction that has flips, at most ten of them in each."""
    worse = flips["score_second"] < flips["score_first"]
    directions = (
        ("Right in A, wrong or less right in B", flips[worse]),
        ("Wrong or less right in A, right in B", flips[~worse]),
    )
    return [_flip_table(title, rows) for title, rows in directions if len(rows)]


def write_flips(flips: pd.DataFrame, path: Path) -> None:
    """Write every flip as a row of a CSV file. Raises ``OSError`` where that is not possible."""

    names = {
        "answer_first": "answer_a",
        "answer_second": "answer_b",
        "score_first": "score_a",
        "score_second": "score_b",
    }
    texts = ["task", "key", "question", "target", "cluster", "answer_first", "answer_second"]
    shown = flips.assign(**{name: flips[name].map(csv_cell, na_action="ignore") for name in texts})
    path.parent.mkdir(parents=True, exist_ok=True)
    shown.rename(columns=names).to_csv(path, index=False, lineterminator="\n")


def _flip_table(title: str, rows: pd.DataFrame) -> Table:
    columns = ("key", "question", "target", "answer_first", "answer_second")
    shown = rows.head(_SHOWN)
    cells = tuple(tuple(clipped(str(value)) for value in row) for row in shown[list(columns)].itertuples(index=False))
    notes = (f"and {len(rows) - len(shown):,} more; --flips FILE writes all",) if len(rows) > len(shown) else ()
    return Table(title, ("question", "text", "right answer", "A", "B"), (cells,), notes)
