"""Finished evaluations: read one, report on it, compare two, judge one by a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from dualfocus_eval.analysis import reading
from dualfocus_eval.analysis.pairing import Comparison, compare_categories, compare_tasks, pair_runs
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.gate import judging
from dualfocus_eval.gate.baseline import reduce_run
from dualfocus_eval.gate.baseline_file import load_baseline
from dualfocus_eval.gate.packaged import packaged_baseline, packaged_names
from dualfocus_eval.gate.verdict import Limits, Verdict

__all__ = ["FinishedRun", "RunComparison", "compare", "judge", "read_run"]

Place = str | PathLike[str]


@dataclass(frozen=True)
class FinishedRun:
    """An evaluation, read back from its files; made by `read_run`."""

    data: Run
    """All that was read, scored records and task objects included (`analysis.runs.Run`)."""

    @property
    def path(self) -> Path:
        """lmms-eval's results file."""
        return self.data.path

    @property
    def settings(self) -> Mapping[str, Any]:
        """The resolved settings of the method; empty for a run of another model."""
        return self.data.settings

    @property
    def results(self) -> Mapping[str, Any]:
        """What the results file holds, as lmms-eval wrote it."""
        return self.data.results

    @property
    def traces(self) -> pd.DataFrame:
        """A row per question, tasks and documents in the order of the run; a copy.

        Among the columns: ``task``, ``key``, ``question``, ``target``, ``answer``; ``macro_text``, ``macro_nll``,
        ``micro_text``, ``micro_nll`` (mean, nats per token); ``box_x1`` to ``box_y2`` (fractions of the image),
        ``crop_left`` to ``crop_bottom`` (pixels); ``selected``, ``decision``, ``fallback``; ``score_macro``,
        ``score_micro``, ``score_selected`` (1 is right). What a question does not have is missing (NaN).
        """
        return self.data.answers.copy()

    @property
    def faults(self) -> tuple[str, ...]:
        """What of the files could not be used, and what else a reader should know."""
        return tuple(map(str, self.data.faults))

    def report(self, out: Place) -> Path:
        """Write the report (a page, tables, figures) into the folder ``out`` and return its ``index.html``.

        Raises ``UserError`` where ``out`` cannot be written or holds files that are no report's.
        """
        from dualfocus_eval.report.writing import report_run

        return report_run(self.data, Path(out))

    def __repr__(self) -> str:
        return f"FinishedRun({str(self.path)!r}, {len(self.data.answers):,} questions)"


@dataclass(frozen=True)
class RunComparison:
    """Two runs of the same questions, side by side; made by `compare`."""

    tasks: pd.DataFrame
    """A row per task: ``n`` questions, ``images``, mean scores ``a`` and ``b``, ``difference`` (b - a) with its 95%
    interval ``low`` to ``high`` (bootstrap over images), how many questions are ``better`` and ``worse`` in b, ``p``
    (McNemar's test by image, two-sided) and ``p_holm`` (adjusted for the number of rows)."""
    categories: pd.DataFrame
    """The same for each metric that scores a part of a task's questions."""
    flips: pd.DataFrame
    """The questions whose scores differ, with both answers and scores (``_first`` is a, ``_second`` is b)."""
    left_out: Mapping[str, tuple[str, ...]]
    """Why other questions are not compared, and their keys."""


def read_run(place: Place) -> FinishedRun:
    """Read the newest run below the folder ``place`` (an ``--output_path``), or the one of that results file.

    The run needs ``--log_samples`` for single questions. A run of another model is read as far as it goes. Raises
    ``UserError`` where there are no results, or where it is not clear which run is the newest.
    """
    return FinishedRun(reading.read_run(Path(place)))


def compare(a: FinishedRun | Place, b: FinishedRun | Place) -> RunComparison:
    """Compare two runs question by question. Raises ``UserError`` where no question is in both."""
    from dualfocus_eval.report.run_comparison import flips_of

    first, second = _run(a), _run(b)
    pairs = pair_runs(first, second)
    return RunComparison(
        tasks=_frame(compare_tasks(pairs.rows)),
        categories=_frame(compare_categories(pairs.rows, first, second)),
        flips=flips_of(pairs.rows).reset_index(drop=True),
        left_out=pairs.left_out,
    )


def judge(
    run: FinishedRun | Place,
    baseline: Place,
    *,
    max_drop: float | None = None,
    min_scores: Mapping[str, float] | None = None,
    other_engine: bool = False,
) -> Verdict:
    """Judge a run as ``dualfocus regress`` does; ``Verdict.passed`` says whether it is as good as its ``baseline``.

    ``baseline`` is a file, or the name of one that comes with the package, e.g. ``df_pope_mini``. ``max_drop`` (points)
    judges by scores alone; ``min_scores`` (percent, by task) refuses lower ones.
    ``other_engine`` allows a server's run and a baseline of the engine in process, or the reverse. Raises
    ``UserError`` where the run cannot be judged: other questions, another checkpoint, a run that is not whole.
    """
    path = packaged_baseline(Path(baseline)) or Path(baseline)
    if not path.is_file():
        raise UserError(f"there is no baseline {baseline}: name a file, or one of: {', '.join(packaged_names())}")
    data = run.data if isinstance(run, FinishedRun) else reading.read_run(Path(run), only=True)
    return judging.judge(
        reduce_run(data), load_baseline(path), Limits(max_drop, min_scores or {}), other_engine=other_engine
    )


def _run(run: FinishedRun | Place) -> Run:
    return run.data if isinstance(run, FinishedRun) else read_run(run).data


_COLUMNS = ("n", "images", "a", "b", "difference", "low", "high", "better", "worse", "p", "p_holm")


def _frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    rows = [
        (
            found.questions,
            found.images,
            found.first,
            found.second,
            found.difference.value,
            found.difference.low,
            found.difference.high,
            found.test.better,
            found.test.worse,
            found.test.p_two_sided if found.questions else math.nan,
            found.p_adjusted,
        )
        for found in comparisons
    ]
    return pd.DataFrame(rows, index=[found.name for found in comparisons], columns=_COLUMNS)
