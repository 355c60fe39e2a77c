"""Fits a calibrated choice on a finished run, and says what it is worth on images that the fit has not seen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import heading, picked_micro, scores_of
from dualfocus_eval.analysis.gap import both_scored, gap_closed
from dualfocus_eval.analysis.intervals import Estimate
from dualfocus_eval.analysis.measures import rate
from dualfocus_eval.analysis.reading import best_traces, find_traces
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.method.selection import candidates_of
from dualfocus_eval.method.selection.calibration import (
    Calibration,
    FittedTask,
    Interval,
    Term,
    Validation,
    image_mark,
    signed,
)
from dualfocus_eval.method.selection.features import FEATURES, features_of, kind_feature, kinds_among
from dualfocus_eval.method.settings import candidate_settings
from dualfocus_eval.traces.record import Decision
from dualfocus_eval.traces.trace_files import LoadCounts

__all__ = ["FOLDS", "calibrate", "folds_of"]

FOLDS = 5
"""Groups of images; each is judged by a fit on the others."""
PENALTY = 1.0
"""scikit-learn's C, with features of unit variance: its default."""


@dataclass(frozen=True)
class _Examples:
    """Questions that a rule has to decide and of which one answer scores higher."""

    rows: pd.DataFrame
    values: np.ndarray
    """(questions, features): `FEATURES`, then those of each of ``kinds``."""
    kinds: tuple[str, ...]

    @property
    def micro_better(self) -> np.ndarray:
        return np.asarray(self.rows["score_micro"] > self.rows["score_macro"])

    @property
    def weights(self) -> np.ndarray:
        """What is at stake."""
        return np.asarray((self.rows["score_micro"] - self.rows["score_macro"]).abs())


def _names(kinds: tuple[str, ...]) -> tuple[str, ...]:
    return (*FEATURES, *map(kind_feature, kinds))


def calibrate(run: Run, place: Path) -> Calibration:
    """Fit a choice on ``run``, which `read_run` read from ``place``.

    Raises ``UserError`` for a run that has nothing to learn from.
    """
    _refuse_unfit(run)
    rows = both_scored(run)
    features = _features(run, place)
    values = pd.Series([features.get((key, digest)) for key, digest in _identities(rows)], index=rows.index)
    undecided = (rows["decision"] == Decision.NLL) & values.notna()
    differing = undecided & (rows["score_macro"] != rows["score_micro"])
    examples = _examples(rows[differing], values[differing])
    _refuse_too_few(run, examples)
    intercept, terms = _fitted(examples, np.ones(len(examples.rows), dtype=bool))
    record = run.record or {}
    return signed(
        Calibration(
            model=str(record["checkpoint"]),
            settings=candidate_settings(record["settings"]),
            tasks=dict(_tasks(rows, differing)),
            intercept=intercept,
            terms=terms,
            kinds=examples.kinds,
            validation=_validated(run, rows, examples, values[undecided]),
            images=tuple(sorted({image_mark(image) for image in rows["cluster"]})),
        )
    )


def _refuse_unfit(run: Run) -> None:
    fix = "; run with strategy=dualfocus, score_all=true, adaptive_nll=none and --log_samples"
    if run.record is None or "checkpoint" not in run.record:
        raise UserError(f"{run.path} does not say which model ran: a calibration is of one model{fix}")
    if "oracle" not in run.choices or run.answers["scored"].isna().all():
        raise UserError(f"{run.path} has no question with two answers that were both scored{fix}")


def _refuse_too_few(run: Run, examples: _Examples) -> None:
    better = int(examples.micro_better.sum())
    images = examples.rows["cluster"].nunique()
    if min(better, len(examples.rows) - better) < FOLDS or images < 2 * FOLDS:
        raise UserError(
            f"{run.path}: of the questions that perplexity decides, the micro answer scores higher in {better}, the "
            f"macro answer in {len(examples.rows) - better}, about {images} images: a fit needs {FOLDS} of either and "
            f"{2 * FOLDS} images; run more questions"
        )


def _features(run: Run, place: Path) -> dict[tuple[str, str], dict[str, float]]:
    """The features of each question by its key and digest, for those that have all."""
    record = run.record or {}
    found = {}
    for trace in best_traces(find_traces(record, run.path, place), record, LoadCounts()):
        candidates = candidates_of(trace)
        if candidates and (values := features_of(candidates)):
            found[trace.key, trace.question_digest] = values
    return found


def _identities(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    yield from zip(rows["key"], rows["question_digest"], strict=True)


def _examples(rows: pd.DataFrame, values: pd.Series) -> _Examples:
    kinds = tuple(sorted({kind for found in values for kind in kinds_among(found)}))
    return _Examples(rows, _matrix(values, kinds), kinds)


def _matrix(values: pd.Series, kinds: tuple[str, ...]) -> np.ndarray:
    names = _names(kinds)
    return np.array([[found.get(name, 0.0) for name in names] for found in values]).reshape(len(values), len(names))


def _fitted(examples: _Examples, kept: np.ndarray) -> tuple[float, tuple[Term, ...]]:
    """The intercept and the terms, from the examples that are ``kept``, (questions,) of bool.

    Raises ``UserError`` where the same answer is the better one in all of them.
    """
    from sklearn.linear_model import LogisticRegression

    if len(set(examples.micro_better[kept])) < 2:
        raise UserError(
            "without some images, the same answer is always the better one: run questions about more images"
        )
    values = examples.values[kept]
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales[scales < 1e-12] = 1.0  # a feature that is the same everywhere gets no weight
    model = LogisticRegression(C=PENALTY, max_iter=10_000)
    model.fit((values - means) / scales, examples.micro_better[kept], sample_weight=examples.weights[kept])
    columns = zip(_names(examples.kinds), model.coef_[0], means, scales, strict=True)
    terms = (Term(name, float(weight), float(mean), float(scale)) for name, weight, mean, scale in columns)
    return float(model.intercept_[0]), tuple(terms)


def folds_of(clusters: pd.Series) -> list[np.ndarray]:
    """For each fold, which questions it judges; (questions,) of bool. No image is in two folds."""
    from sklearn.model_selection import GroupKFold

    folds = []
    for _, judged in GroupKFold(FOLDS).split(np.zeros(len(clusters)), groups=clusters):
        chosen = np.zeros(len(clusters), dtype=bool)
        chosen[judged] = True
        folds.append(chosen)
    return folds


def _validated(run: Run, rows: pd.DataFrame, examples: _Examples, undecided: pd.Series) -> Validation:
    """The choice judged fold by fold. ``undecided`` has the features of the questions that are left to it."""
    takes_micro = pd.Series(picked_micro(rows, "macro"), index=rows.index)
    settled = rows["decision"] != Decision.NLL
    takes_micro[settled] = picked_micro(rows[settled], "selected")
    values, of_image = _matrix(undecided, examples.kinds), rows["cluster"][undecided.index]
    for judged in folds_of(rows["cluster"]):
        images = set(rows["cluster"][judged])
        intercept, terms = _fitted(examples, ~examples.rows["cluster"].isin(images).to_numpy())
        odds = intercept + sum(
            term.coefficient * (column - term.mean) / term.scale for term, column in zip(terms, values.T, strict=True)
        )
        here = of_image.isin(images)
        takes_micro[of_image.index[here]] = odds[here] >= 0
    scores = np.where(takes_micro, rows["score_micro"], rows["score_macro"])
    gap = gap_closed(run, rows, scores)
    shown = {heading(choice): scores_of(rows, choice) for choice in run.choices if choice != "selected"}
    return Validation(
        folds=FOLDS,
        images=rows["cluster"].nunique(),
        scores={name: _interval(_percent(column, rows)) for name, column in (shown | {"calibrated": scores}).items()},
        best_rule=gap.best_rule,
        closed=_interval(gap.closed),
    )


def _percent(scores: np.ndarray, rows: pd.DataFrame) -> Estimate:
    number = rate(scores, rows["cluster"])
    return Estimate(number.value, number.low, number.high)


def _interval(found: Estimate) -> Interval:
    low, value, high = (None if math.isnan(one) else round(one, 4) for one in (found.low, found.value, found.high))
    return value, low, high


def _tasks(rows: pd.DataFrame, differing: pd.Series) -> Iterator[tuple[str, FittedTask]]:
    for task, of_task in rows.groupby("task", sort=False):
        columns = ["key", "question_digest", "score_macro", "score_micro"]
        text = json.dumps(sorted(of_task[columns].itertuples(index=False, name=None)))
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        yield str(task), FittedTask(len(of_task), int(differing[of_task.index].sum()), digest)
