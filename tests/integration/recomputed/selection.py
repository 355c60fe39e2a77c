"""Who is right, which candidate each rule takes where that matters, and which questions show it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from tests.integration.recomputed.answers import RULES, Answers
from tests.integration.recomputed.cells import Cell, Measured, Table, percent, plain, points
from tests.integration.recomputed.intervals import difference_interval, rate_interval

__all__ = ["selection_tables"]

SHOWN, LONGEST = 6, 200
DECISIONS = {
    "nll": "perplexity",
    "agreement": "same answer",
    "only_valid_option": "only one names an option",
    "no_valid_option": "neither names an option",
}


def selection_tables(run: Answers) -> dict[str, Table]:
    if not run.both:
        return {}
    rules = list(RULES)
    split, accuracy, regret = [], [], []
    for task, part in run.tasks.items():
        macro, micro, images = part["score_macro"], part["score_micro"], part["image"]
        parts = ((macro == micro) & (macro > 0), macro > micro, micro > macro, (macro == micro) & (macro == 0))
        two = part[part["micro_text"].notna()]
        same = _share(two["decision"] == "agreement", two["image"])
        split.append([task, len(part), *(_share(each, images) for each in parts), len(two), same])
        differ = part[macro != micro]
        right = [_share(differ[f"take {rule}"] == differ["take oracle"], differ["image"]) for rule in rules]
        accuracy.append([task, len(differ), differ["image"].nunique(), *right])
        regret.append([task, len(part), *(_regret(part, rule) for rule in rules)])
    return {
        "split": Table(
            ["task", "n", "both right", "macro only", "micro only", "neither", "with two answers", "same answer"],
            split,
            ["0", "1", "0"],  # "Scores other than 0 and 1 [...] above 0"
        ),
        "selection": Table(["task", "n", "images", *rules], accuracy),
        "regret": Table(["task", "n", *rules], regret),
        "questions": _questions(run.questions, run.record["settings"]["selection"]),
    }


def _share(each: pd.Series, images: pd.Series) -> Measured:
    if each.empty:
        return percent(math.nan)
    return percent(each.mean(), rate_interval(each.astype(float), images))


def _regret(part: pd.DataFrame, rule: str) -> Measured:
    scores = np.where(part[f"take {rule}"] == "micro", part["score_micro"], part["score_macro"])
    lost = part[["score_macro", "score_micro"]].max(axis=1) - scores
    low, high = difference_interval(lost, part["image"])
    return points(lost.mean(), (max(0.0, low), high))


def _questions(questions: pd.DataFrame, rule: str) -> Table:
    """The first of those where the selection beat macro, was beaten by it, and missed a better micro answer."""
    two = questions[questions["micro_text"].notna()]
    score = two["score_macro"].where(two["selected"] == "macro", two["score_micro"])
    kinds = {
        "gained": two[score > two["score_macro"]],
        "lost": two[score < two["score_macro"]],
        "missed": two[(two["selected"] == "macro") & (two["score_micro"] > two["score_macro"])],
    }
    rows: list[list[Cell]] = [
        [
            kind, row["key"], *map(_cut, (row["sample"]["input"], row["sample"]["target"])),
            *map(_cut, (row["macro_text"], row["micro_text"])), DECISIONS[row["decision"]],
            *(plain(math.exp(value)) for value in row[f"compared by {rule}"]), row["selected"],
        ]
        for kind, found in kinds.items()
        for _, row in found.head(SHOWN).iterrows()
    ]  # fmt: skip
    names = ["kind", "question", "prompt", "right", "macro", "micro"]
    header = [*names, "decided by", "PPL macro", "PPL micro", "selected"]
    return Table(header, rows, [f"{len(found):,}" for found in kinds.values() if len(found)])


def _cut(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]} ... ({len(plain):,} characters)"
