"""Whether a run is as good as its baseline: what moved, what may move, and what the scores say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from dualfocus_eval.analysis.paired_tests import PairedTest, holm, mcnemar
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.environment import COMPUTING
from dualfocus_eval.gate.baseline import Answer, Baseline, Provenance
from dualfocus_eval.gate.verdict import Limits, Mode, Move, TaskVerdict, Verdict, direction_of
from dualfocus_eval.method.settings import Settings

__all__ = ["SIGNIFICANT", "TIE", "judge"]

TIE = 1e-3
"""In nats: in another environment a decision closer than this may go the other way."""
SIGNIFICANT = 0.05
"""A score has got worse where McNemar's one-sided test, adjusted for the number of tasks, gives less than this."""

_OF_A_SAMPLE = re.compile(r"[0-9a-f]{16}")
"""The digest of a checkpoint as earlier versions made it; it has 32 digits today."""

_ROUNDING = 1e-9
_DECIDING = (
    "server",
    "system_fingerprint",
    "platform",
    "processor",
    "threads",
    "device",
    "dtype",
    "attention",
    "batch_size",
)


def judge(run: Baseline, baseline: Baseline, limits: Limits | None = None, *, other_engine: bool = False) -> Verdict:
    """Compare the reduced ``run`` with ``baseline``, question by question, within ``limits``.

    With ``other_engine`` one of them may come from a server and the other from an engine in process.

    Raises ``UserError`` where that says nothing: another checkpoint, missing tasks, other questions, limits on scores
    that are not there.
    """
    limits = limits or Limits()
    if not _are_of_two_engines(run.provenance, baseline.provenance, expected=other_engine):
        _refuse_other_checkpoint(run, baseline)
    missing = [name for name in baseline.tasks if name not in run.tasks]
    if missing:
        raise UserError(f"the run lacks {len(missing)} of the baseline's tasks: {', '.join(missing)}")
    differences = _environment_differences(run.provenance, baseline.provenance)
    pairs = {name: _paired(name, answers, run.tasks[name]) for name, answers in baseline.tasks.items()}
    _refuse_idle_limits(limits, pairs)
    mode = _mode(limits, baseline.provenance, differences)
    tests = [_test(of_task) for of_task in pairs.values()]
    adjusted = holm([test.p_worse for test in tests])
    return Verdict(
        mode,
        differences,
        _changes(_settings(baseline.provenance), _settings(run.provenance)),
        tuple(
            _task_verdict(name, of_task, mode, test, p_worse, limits)
            for (name, of_task), test, p_worse in zip(pairs.items(), tests, adjusted, strict=True)
        ),
        tuple(name for name in run.tasks if name not in baseline.tasks),
    )


_Pairs = list[tuple[Answer, Answer]]


def _are_of_two_engines(run: Provenance, baseline: Provenance, *, expected: bool) -> bool:
    """Whether a server answered for one of them only. Raises ``UserError`` where that is not as ``expected``."""
    different = run.served != baseline.served
    if different and not expected:
        raise UserError(
            f"the run is of another engine ({run.engine}) than the baseline ({baseline.engine}), and whether both ran "
            "the same checkpoint is not known; pass --other-engine to judge it all the same, or make a baseline of "
            "this engine from a good run with --update"
        )
    if expected and not different:
        raise UserError(f"--other-engine: the run and the baseline are of one engine ({run.engine}); leave it out")
    return different


def _refuse_other_checkpoint(run: Baseline, baseline: Baseline) -> None:
    here, there = run.provenance, baseline.provenance
    dtypes = here.environment.get("dtype"), there.environment.get("dtype")
    if dtypes[0] != dtypes[1]:
        raise UserError(f"the run is in {dtypes[0]}, the baseline in {dtypes[1]}; pass dtype={dtypes[1]} to the model")
    # A folder may have another name; the digest at the end says what is in it.
    run_digest, baseline_digest = (of.checkpoint.rpartition("-")[2] for of in (here, there))
    for what, digest, renew in (
        ("baseline", baseline_digest, "make a new one from a good run with --update"),
        ("run", run_digest, "run again"),
    ):
        if _OF_A_SAMPLE.fullmatch(digest):
            raise UserError(
                f"the {what} names its checkpoint by a sample of its weights ({digest}), as earlier versions of "
                f"dualfocus-eval did, which cannot tell two checkpoints apart; {renew}"
            )
    if run_digest != baseline_digest:
        raise UserError(
            f"the run is of another checkpoint or preprocessing ({here.checkpoint}) than the baseline "
            f"({there.checkpoint}); if that is meant, renew the baseline with --update"
        )


def _paired(task: str, before: tuple[Answer, ...], after: tuple[Answer, ...]) -> _Pairs:
    found = {answer.doc_id: answer for answer in after}
    missing = [answer.doc_id for answer in before if answer.doc_id not in found]
    changed = [
        answer.doc_id
        for answer in before
        if answer.doc_id in found and found[answer.doc_id].question != answer.question
    ]
    for doc_ids, what in ((missing, "were not asked"), (changed, "are not the baseline's (text, images or limits)")):
        if doc_ids:
            some = ", ".join(f"{task}/{doc_id}" for doc_id in doc_ids[:3]) + (", ..." if len(doc_ids) > 3 else "")
            raise UserError(f"{len(doc_ids):,} of the {len(before):,} questions of {task} {what}: {some}")
    return [(answer, found[answer.doc_id]) for answer in before]


def _refuse_idle_limits(limits: Limits, pairs: Mapping[str, _Pairs]) -> None:
    unknown = [name for name in limits.min_scores if name not in pairs]
    if unknown:
        raise UserError(f"--min-score: the baseline has no task {', '.join(unknown)}; it has {', '.join(pairs)}")
    limited = pairs if limits.max_drop is not None else limits.min_scores
    sides = (0, 1) if limits.max_drop is not None else (1,)
    unscored = [
        name for name in limited if any(all(math.isnan(pair[side].score) for pair in pairs[name]) for side in sides)
    ]
    if unscored:
        raise UserError(f"no question of {', '.join(unscored)} has a score, so --max-drop and --min-score say nothing")


def _mode(limits: Limits, baseline: Provenance, differences: tuple[str, ...]) -> Mode:
    if limits.max_drop is not None:
        return "drop"
    if baseline.environment.get("dtype") != "float32":
        return "score"
    return "near" if differences else "exact"


def _task_verdict(
    name: str, pairs: _Pairs, mode: Mode, test: PairedTest, p_worse: float, limits: Limits
) -> TaskVerdict:
    before, after = (_mean([pair[place].score for pair in pairs]) for place in (0, 1))
    return TaskVerdict(
        name,
        tuple(f"{name}/{answer.doc_id}" for answer, _ in pairs),
        before,
        after,
        _moves(name, pairs, mode),
        test,
        p_worse,
        _shortfalls(100 * before, 100 * after, p_worse, limits, limits.min_scores.get(name)),
    )


def _shortfalls(before: float, after: float, p_worse: float, limits: Limits, least: float | None) -> tuple[str, ...]:
    found = []
    if limits.max_drop is None:
        if p_worse < SIGNIFICANT:
            found.append(f"got worse: {before:.1f}% -> {after:.1f}%, p {p_worse:.2g} < {SIGNIFICANT}")
    elif before - after > limits.max_drop + _ROUNDING:
        found.append(f"fell by {before - after:.1f} points: {before:.1f}% -> {after:.1f}%, allowed {limits.max_drop:g}")
    if least is not None and after < least - _ROUNDING:
        found.append(f"is {after:.1f}%, below {least:g}%")
    return tuple(found)


def _environment_differences(run: Provenance, baseline: Provenance) -> tuple[str, ...]:
    if run.served == baseline.served:
        found = _changes(_deciding(baseline.environment), _deciding(run.environment))
    else:  # they have little to compare
        found = (f"engine: {run.engine} (baseline: {baseline.engine})",)
    several = f"answers: all of this run (baseline: {baseline.resumed:,} of an earlier run)"
    return (*found, several) if baseline.resumed else found


def _settings(provenance: Provenance) -> dict[str, Any]:
    """With the defaults of those that did not exist yet: what they are today is what was done then."""
    return asdict(Settings()) | dict(provenance.settings)


def _deciding(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = environment.get("packages", {})
    return {name: environment.get(name) for name in _DECIDING} | {name: packages.get(name) for name in COMPUTING}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    names = dict.fromkeys([*before, *after])
    return tuple(
        f"{name}: {after.get(name)} (baseline: {before.get(name)})"
        for name in names
        if before.get(name) != after.get(name)
    )


def _moves(task: str, pairs: _Pairs, mode: Mode) -> tuple[Move, ...]:
    return tuple(
        Move(task, before, after, _may_move(before, after, mode))
        for before, after in pairs
        if before.text != after.text or not _equal(before.score, after.score)
    )


def _may_move(before: Answer, after: Answer, mode: Mode) -> bool:
    direction = direction_of(before, after)
    if direction in ("worse", "not known"):
        return mode in ("score", "drop") or (mode == "near" and before.gap < TIE)
    return direction != "lost"


def _equal(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _test(pairs: _Pairs) -> PairedTest:
    scored = [pair for pair in pairs if not (math.isnan(pair[0].score) or math.isnan(pair[1].score))]
    before, after = ([pair[place].score for pair in scored] for place in (0, 1))
    return mcnemar(before, after, [pair[1].cluster for pair in scored])


def _mean(scores: list[float]) -> float:
    known = [score for score in scores if not math.isnan(score)]
    return float(np.mean(known)) if known else math.nan
