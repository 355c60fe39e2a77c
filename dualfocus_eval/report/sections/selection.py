"""Where the candidates differ, which one each rule picks, and what that costs against the oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice, picked_micro, rule_choice, rule_notes, scores_of
from dualfocus_eval.analysis.intervals import are_shares
from dualfocus_eval.analysis.measures import points, rate, scale_notes
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Table
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.strategies import INTERVALS

__all__ = ["selection_section"]


def selection_section(run: Run) -> Section:
    """The four-way split, and each rule's accuracy and regret, task by task."""
    text = (
        "Selection matters only if one candidate scores higher than the other. A rule's accuracy is how often it "
        "then picks the better one. Its regret is what the oracle would gain over it."
    )
    if "oracle" not in run.choices:
        return Section("selection", "Selection", text)
    rules = [rule_choice(rule) for rule in run.rules]
    split: list[tuple[Cell, ...]] = []
    accuracy: list[tuple[Cell, ...]] = []
    regret: list[tuple[Cell, ...]] = []
    for task in run.task_names:
        rows = run.of(task)
        rows = rows[rows["score_macro"].notna() & rows["score_micro"].notna()]
        if rows.empty:
            continue
        both, macro, micro, neither = four_way(rows)
        split.append(_split_row(task, rows, both, macro, micro, neither))
        differ = rows[macro | micro]
        images = differ["cluster"].nunique()
        accuracy.append((task, len(differ), images, *(_accuracy(differ, rule) for rule in rules)))
        regret.append((task, len(rows), *(_regret(rows, rule) for rule in rules)))
    if not split:
        return Section("selection", "Selection", text)
    own = [task for task in run.task_names if not are_shares(run.of(task)[["score_macro", "score_micro"]])]
    scores = (
        "For scores other than 0 and 1 (TextVQA), only the higher one counts as right; if both are equal and "
        "above 0, both do."
    )
    alone = (
        "A question without a micro answer counts with its macro answer on both sides; `same answer` covers "
        "questions with two."
    )
    header = ("task", "n", "both right", "macro only", "micro only", "neither", "with two answers", "same answer")
    tables = {
        "split": Table("Who is right (% of questions)", header, (tuple(split),), (INTERVALS, scores, alone)),
        "selection": Table(
            "Accuracy of selection if one candidate scores higher (%)",
            ("task", "n", "images", *run.rules),
            (tuple(accuracy),),
            (INTERVALS, *rule_notes(run.rules)),
        ),
        "regret": Table(
            "Regret against the oracle (points)",
            ("task", "n", *run.rules),
            (tuple(regret),),
            (INTERVALS, *rule_notes(run.rules), *scale_notes(own)),
        ),
    }
    return Section("selection", "Selection", text, tables)


def four_way(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both right, macro only, micro only, neither; each (questions,) of bool, exactly one true per question."""
    macro, micro = rows["score_macro"].to_numpy(), rows["score_micro"].to_numpy()
    equal = macro == micro
    return equal & (macro > 0), macro > micro, micro > macro, equal & (macro <= 0)


def _split_row(task: str, rows: pd.DataFrame, *parts: np.ndarray) -> tuple[Cell, ...]:
    two = rows[rows["micro_text"].notna()]
    agreeing = (two["decision"] == "agreement").fillna(False).to_numpy(dtype=bool)
    shares = (rate(part, rows["cluster"]) for part in parts)
    return (task, len(rows), *shares, len(two), rate(agreeing, two["cluster"]))


def _accuracy(differ: pd.DataFrame, rule: Choice) -> Cell:
    better = (differ["score_micro"] > differ["score_macro"]).to_numpy()
    return rate(picked_micro(differ, rule) == better, differ["cluster"])


def _regret(rows: pd.DataFrame, rule: Choice) -> Cell:
    """No rule can beat the oracle: the interval begins at 0 or above."""
    share = are_shares(rows[["score_macro", "score_micro"]])
    found = points(scores_of(rows, rule), scores_of(rows, "oracle"), rows["cluster"], share=share)
    return replace(found, low=max(found.low, 0.0))
