"""What joining two runs is worth: the scores of both, of the joined answers and of the oracle, and how they differ."""

from __future__ import annotations

from dualfocus_eval.analysis.choices import Choice, picked_micro, scores_of
from dualfocus_eval.analysis.intervals import are_shares
from dualfocus_eval.analysis.measures import is_share, metric, points, rate, scale_notes
from dualfocus_eval.analysis.run_join import JOINED_CHOICES, JoinedRuns
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Table
from dualfocus_eval.report.sections.strategies import INTERVALS

__all__ = ["joined_tables"]

_DIFFERENCES: tuple[tuple[Choice, Choice], ...] = (("selected", "macro"), ("selected", "micro"), ("oracle", "selected"))


def joined_tables(joined: JoinedRuns) -> dict[str, Table]:
    """Each task's main metric by its own scoring, and paired differences of its questions' scores."""
    return {"scores": _scores(joined.run), "differences": _differences(joined.run)}


def _scores(run: Run) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for task in run.task_names:
        main = str(run.main_metric(task))
        found = [metric(run, task, main, choice) for choice in JOINED_CHOICES]
        rows.append((task, main, max(n for n, _ in found), *(number for _, number in found)))
    own = [task for task in run.task_names if not is_share(run, task, str(run.main_metric(task)))]
    header = ("task", "metric", "n", *JOINED_CHOICES.values())
    notes = (
        INTERVALS,
        "joined: the answer with the lower perplexity, each as it was generated; B on a tie. oracle: the better of "
        "both answers, an upper bound.",
        *scale_notes(own),
    )
    return Table("Scores (%)" if len(own) < len(rows) else "Scores", header, (tuple(rows),), notes)


def _differences(run: Run) -> Table:
    rows: list[tuple[Cell, ...]] = []
    own = []
    for task in run.task_names:
        part = run.of(task)
        share = are_shares(part[["score_macro", "score_micro"]])
        own += [] if share else [task]
        cells = [
            points(scores_of(part, before), scores_of(part, after), part["cluster"], share=share)
            for after, before in _DIFFERENCES
        ]
        differ = part[part["macro_text"] != part["micro_text"]]
        taken = rate(picked_micro(differ, "selected"), differ["cluster"])
        rows.append((task, len(part), part["cluster"].nunique(), len(differ), taken, *cells))
    names = [f"{JOINED_CHOICES[after]} - {JOINED_CHOICES[before]}" for after, before in _DIFFERENCES]
    header = ("task", "n", "images", "answers differ", "of these, B %", *names)
    notes = (
        f"Paired, question by question. {INTERVALS}",
        "The score of each question is compared: MMBench by row, not by circular question, and POPE by accuracy.",
        *scale_notes(own),
    )
    return Table("Differences (points)", header, (tuple(rows),), notes)
