"""Fits a calibrated choice on a finished run, and says what it is worth on images that the fit has not seen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
    Regression,
    Term,
    Validation,
    image_mark,
    signed,
)
from dualfocus_eval.method.selection.features import FEATURES, answer_kind, features_of
from dualfocus_eval.method.settings import candidate_settings
from dualfocus_eval.traces.record import Decision
from dualfocus_eval.traces.trace_files import LoadCounts

__all__ = ["FOLDS", "calibrate", "folds_of"]

FOLDS = 5
"""Groups of images; each is judged by a fit on the others."""
PENALTY = 1.0
"""scikit-learn's C, with features of unit variance: its default."""
FEWEST = 5
"""Questions with the better micro answer, and with the better macro answer, that a kind of answers is fitted on."""


def calibrate(run: Run, place: Path) -> Calibration:
    """Fit a choice on ``run``, which `read_run` read from ``place``.

    Raises ``UserError`` for a run that has nothing to learn from.
    """
    _refuse_unfit(run)
    rows = both_scored(run)
    undecided = _undecided(rows, _features(run, place))
    examples = undecided[undecided["stake"] != 0]
    regressions = _fitted(examples)
    _refuse_too_few(run, rows, regressions)
    record = run.record or {}
    return signed(
        Calibration(
            model=str(record["checkpoint"]),
            settings=candidate_settings(record["settings"]),
            tasks=dict(_tasks(rows, examples.index)),
            kinds=regressions,
            unfitted=tuple(sorted(set(examples["kind"]) - regressions.keys())),
            validation=_validated(run, rows, undecided),
            images=tuple(sorted({image_mark(image) for image in rows["cluster"]})),
        )
    )


def _refuse_unfit(run: Run) -> None:
    fix = "; run with strategy=dualfocus, score_all=true, adaptive_nll=none and --log_samples"
    if run.record is None or "checkpoint" not in run.record:
        raise UserError(f"{run.path} does not say which model ran: a calibration is of one model{fix}")
    if "oracle" not in run.choices or run.answers["scored"].isna().all():
        raise UserError(f"{run.path} has no question with two answers that were both scored{fix}")


def _refuse_too_few(run: Run, rows: pd.DataFrame, regressions: Mapping[str, Regression]) -> None:
    images = rows["cluster"].nunique()
    if images < 2 * FOLDS or not regressions:
        raise UserError(
            f"{run.path}: a fit needs {2 * FOLDS} images, and for one kind of answers at least, of the questions that "
            f"perplexity decides, {FEWEST} with the better micro answer and {FEWEST} with the better macro answer; "
            f"this run is about {images} images: run more questions"
        )


def _features(run: Run, place: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The features of each question, and the ``kind`` of its answers, by its key and digest."""
    record = run.record or {}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for trace in best_traces(find_traces(record, run.path, place), record, LoadCounts()):
        if candidates := candidates_of(trace):
            found[trace.key, trace.question_digest] = features_of(candidates) | {"kind": answer_kind(candidates)}
    return found


def _undecided(rows: pd.DataFrame, features: Mapping[tuple[str, str], Mapping[str, Any]]) -> pd.DataFrame:
    """The questions that are left to the choice: `features.FEATURES`, ``kind``, ``cluster``, and what is at ``stake``,
    the micro answer's score less the macro answer's.

    A feature that no question of the run has is left out; a question that lacks one of the others is not judged.
    """
    left = rows[rows["decision"] == Decision.NLL]
    identities = zip(left["key"], left["question_digest"], strict=True)
    found = pd.DataFrame([features.get(identity, {}) for identity in identities], left.index, [*FEATURES, "kind"])
    found = found.dropna(axis="columns", how="all").dropna()
    return found.assign(cluster=left["cluster"], stake=left["score_micro"] - left["score_macro"])


def _fitted(examples: pd.DataFrame) -> dict[str, Regression]:
    """By kind of answers, for the kinds that have enough examples."""
    if examples.empty:
        return {}
    fits = ((str(kind), _regression(of_kind)) for kind, of_kind in examples.groupby("kind"))
    return {kind: found for kind, found in fits if found}


def _regression(examples: pd.DataFrame) -> Regression | None:
    from sklearn.linear_model import LogisticRegression

    micro_better = (examples["stake"] > 0).to_numpy()
    if min(micro_better.sum(), (~micro_better).sum()) < FEWEST:
        return None
    names = [name for name in FEATURES if name in examples]
    values = examples[names].to_numpy(float)
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales[scales < 1e-12] = 1.0  # a feature that is the same everywhere gets no weight
    model = LogisticRegression(C=PENALTY, max_iter=10_000)
    model.fit((values - means) / scales, micro_better, sample_weight=examples["stake"].abs())
    columns = zip(names, model.coef_[0], means, scales, strict=True)
    terms = (Term(name, float(weight), float(mean), float(scale)) for name, weight, mean, scale in columns)
    return Regression(float(model.intercept_[0]), tuple(terms))


def folds_of(clusters: pd.Series) -> list[np.ndarray]:
    """For each fold, which questions it judges; (questions,) of bool. No image is in two folds."""
    from sklearn.model_selection import GroupKFold

    folds = []
    for _, judged in GroupKFold(FOLDS).split(np.zeros(len(clusters)), groups=clusters):
        chosen = np.zeros(len(clusters), dtype=bool)
        chosen[judged] = True
        folds.append(chosen)
    return folds


def _validated(run: Run, rows: pd.DataFrame, undecided: pd.DataFrame) -> Validation:
    """The choice judged fold by fold, as in a run: what it cannot judge keeps the macro answer."""
    takes_micro = pd.Series(picked_micro(rows, "macro"), index=rows.index)
    settled = rows["decision"] != Decision.NLL
    takes_micro[settled] = picked_micro(rows[settled], "selected")
    for judged in folds_of(rows["cluster"]):
        here = undecided["cluster"].isin(set(rows["cluster"][judged]))
        regressions = _fitted(undecided[~here & (undecided["stake"] != 0)])
        for kind, of_kind in undecided[here].groupby("kind"):
            if str(kind) in regressions:
                takes_micro[of_kind.index] = _odds(regressions[str(kind)], of_kind) >= 0
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


def _odds(regression: Regression, questions: pd.DataFrame) -> pd.Series:
    values = questions[[term.feature for term in regression.terms]].astype(float)
    return values.apply(lambda row: regression.odds(row.to_dict()), axis="columns")


def _percent(scores: np.ndarray, rows: pd.DataFrame) -> Estimate:
    number = rate(scores, rows["cluster"])
    return Estimate(number.value, number.low, number.high)


def _interval(found: Estimate) -> Interval:
    low, value, high = (None if math.isnan(one) else round(one, 4) for one in (found.low, found.value, found.high))
    return value, low, high


def _tasks(rows: pd.DataFrame, differing: pd.Index) -> Iterator[tuple[str, FittedTask]]:
    for task, of_task in rows.groupby("task", sort=False):
        columns = ["key", "question_digest", "score_macro", "score_micro"]
        text = json.dumps(sorted(of_task[columns].itertuples(index=False, name=None)))
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        yield str(task), FittedTask(len(of_task), int(of_task.index.isin(differing).sum()), digest)
