"""Where the candidates differ, which one each rule picks, and what that costs against the oracle."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import Choice, picked_micro, rule_choice, rule_notes, scores_of
from dualfocus_eval.analysis.intervals import are_shares
from dualfocus_eval.analysis.measures import points, rate, scale_notes
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.strategies import INTERVALS, STAR

__all__ = ["gain", "selection_section"]

_SCORES = ["score_macro", "score_micro", "score_selected"]


def gain(run: Run, task: str, choice: Choice) -> tuple[int, Number]:
    """What ``choice`` gains over the macro answers of the same questions: how many pairs there are, and the mean
    difference of their scores as `measures.points` gives it; (0, NaN) without pairs."""
    rows = run.of(task)
    before, after = scores_of(rows, "macro"), scores_of(rows, choice)
    paired = ~np.isnan(before) & ~np.isnan(after)
    if not paired.any():
        return 0, Number(math.nan)
    share = are_shares(rows[_SCORES])
    found = points(before[paired], after[paired], rows["cluster"][paired], share=share)
    # The oracle never loses.
    return int(paired.sum()), replace(found, low=max(found.low, 0.0)) if choice == "oracle" else found


def selection_section(run: Run) -> Section:
    """What each choice gains over macro; the four-way split, and each rule's accuracy and regret, task by task."""
    text = (
        "Selection matters only if one candidate scores higher than the other. A rule's accuracy is how often it "
        "then picks the better one. Its regret is what the oracle would gain over it."
    )
    gains = _gain_table(run)
    if "oracle" not in run.choices:
        return Section("selection", "Selection", text if gains else "", gains)
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
        return Section("selection", "Selection", text, gains)
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
        **gains,
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


def _gain_table(run: Run) -> dict[str, Table]:
    """Paired differences from the macro answers; nothing where the run has no second choice."""
    choices = {choice: heading for choice, heading in run.shown_choices.items() if choice != "macro"}
    if "macro" not in run.choices:
        return {}
    rows: list[tuple[Cell, ...]] = []
    own = []
    for task in run.task_names:
        found = [gain(run, task, choice) for choice in choices]
        if not any(n for n, _ in found):
            continue
        images = run.of(task).loc[run.of(task)["score_macro"].notna(), "cluster"].nunique()
        rows.append((task, max(n for n, _ in found), images, *(number for _, number in found)))
        own += [] if any(number.unit == "points" for _, number in found) else [task]
    header = ("task", "n", "images", *choices.values())
    notes = (
        "The score of each question is compared with that of its macro answer: MMBench by row, not by circular "
        "question, and POPE by accuracy.",
        INTERVALS,
        *((STAR,) if any("*" in heading for heading in choices.values()) else ()),
        *scale_notes(own),
    )
    return {"gain": Table("Gain over macro alone (points)", header, (tuple(rows),), notes)} if rows else {}


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
