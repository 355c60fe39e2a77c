"""What became of a question: what each answer scored, and whether the better one was selected.

The one definition of gained, lost and missed: cards, the report's questions and exports all take it from here.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pandas as pd

__all__ = ["OUTCOME_WORDS", "Outcome", "outcomes_of"]


class Outcome(StrEnum):
    """What became of a question. Each has exactly one; the first six have two answers that were both scored.

    Where scores are not 0 and 1 (TextVQA), the answer that scores higher counts as the right one; of equal scores
    those above 0 do.
    """

    GAINED = "gained"
    """The selected answer scores higher than the macro answer: the micro answer, which is better, was selected."""
    LOST = "lost"
    """It scores lower: the micro answer, which is worse, was selected."""
    MISSED = "missed"
    """The micro answer scores higher, and the macro answer was selected."""
    KEPT = "kept"
    """The micro answer scores lower, and the macro answer was selected."""
    BOTH_RIGHT = "both_right"
    BOTH_WRONG = "both_wrong"
    RIGHT = "right"
    """The only answer that has a score is right."""
    WRONG = "wrong"
    FAILED = "failed"
    """The question has no answer."""
    UNSCORED = "unscored"
    """Nothing says how right the answer is."""


OUTCOME_WORDS: dict[Outcome, str] = {
    Outcome.GAINED: "gained: macro wrong, micro right and selected",
    Outcome.LOST: "lost: macro right, micro wrong and selected",
    Outcome.MISSED: "missed: micro right, macro selected",
    Outcome.KEPT: "kept: macro right and selected, micro wrong",
    Outcome.BOTH_RIGHT: "both right",
    Outcome.BOTH_WRONG: "both wrong",
    Outcome.RIGHT: "right, only one answer",
    Outcome.WRONG: "wrong, only one answer",
    Outcome.FAILED: "failed",
    Outcome.UNSCORED: "no score",
}
"""What a reader is told of each, in the order of a list."""


def outcomes_of(answers: pd.DataFrame) -> np.ndarray:
    """The `Outcome` of each row of a run's answers; (questions,) of str.

    Over the rows whose two scores are known, ``gained`` less ``lost`` is the gain of the selection against macro in
    questions, and ``lost`` and ``missed`` are what the oracle has over it.
    """
    macro, micro, selected = (
        answers[f"score_{name}"].to_numpy(np.float64) for name in ("macro", "micro", "selected")
    )  # each (questions,)
    texts = (answers["macro_text"].notna() & answers["micro_text"].notna()).to_numpy(bool)
    two = texts & ~(np.isnan(macro) | np.isnan(micro) | np.isnan(selected))
    known: dict[Outcome, np.ndarray] = {
        Outcome.FAILED: answers["failed"].notna().to_numpy(bool),
        Outcome.GAINED: two & (selected > macro),
        Outcome.LOST: two & (selected < macro),
        Outcome.MISSED: two & (micro > selected),
        Outcome.KEPT: two & (micro < macro),
        Outcome.BOTH_RIGHT: two & (macro > 0),
        Outcome.BOTH_WRONG: two,
        Outcome.RIGHT: selected > 0,
        Outcome.WRONG: ~np.isnan(selected),
    }
    return np.select(list(known.values()), [str(name) for name in known], str(Outcome.UNSCORED))
