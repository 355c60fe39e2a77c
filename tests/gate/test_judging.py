"""What may move, what may not, and what cannot be judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.gate.baseline import Answer, Baseline, Provenance
from dualfocus_eval.gate.baseline_file import load_baseline
from dualfocus_eval.gate.judging import SIGNIFICANT, TIE, judge
from dualfocus_eval.gate.verdict import Limits
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.method.settings import Settings

ENVIRONMENT = {
    "packages": {"torch": "2.14", "dualfocus-eval": "0.1"},
    "processor": "one",
    "dtype": "float32",
    "batch_size": 16,
}
HERE = Provenance("tiny-abc", "key", {"margin": 25.0}, ENVIRONMENT, "20260101")


def answered(doc_id: int, text: str | None = "yes", score: float = 1.0, gap: float = 0.5) -> Answer:
    return Answer(doc_id, f"digest {doc_id}", text, score, gap, cluster=f"image {doc_id}")


def baseline(answers: Sequence[Answer], task: str = "pope", **environment: Any) -> Baseline:
    return Baseline(replace(HERE, environment=ENVIRONMENT | environment), {task: tuple(answers)})


HUNDRED = [answered(number) for number in range(100)]


def moved(count: int, gap: float, *, score: float = 0.0) -> tuple[list[Answer], list[Answer]]:
    """A baseline whose first ``count`` answers have this closest call, and a run in which they moved."""
    before = [replace(answer, gap=gap) for answer in HUNDRED[:count]] + HUNDRED[count:]
    return before, [replace(answer, text="no", score=score) for answer in before[:count]] + HUNDRED[count:]


def test_the_same_run_passes() -> None:
    verdict = judge(baseline(HUNDRED), baseline(HUNDRED))
    assert (verdict.passed, verdict.mode, verdict.moves, verdict.questions) == (True, "exact", (), 100)


@pytest.mark.parametrize("gap", [0.5, TIE / 10, math.nan])
@pytest.mark.parametrize(("score", "direction"), [(0.0, "worse"), (1.0, "as good")])
def test_in_its_own_environment_no_answer_may_get_worse(gap: float, score: float, direction: str) -> None:
    before, after = moved(1, gap, score=score)
    verdict = judge(baseline(after), baseline(before))
    assert verdict.mode == "exact"
    assert [(move.key, move.direction) for move in verdict.moves] == [("pope/0", direction)]
    assert verdict.passed == verdict.moves[0].allowed == (direction == "as good")


def test_an_answer_that_got_better_has_lost_nothing() -> None:
    after, before = moved(3, 0.5)
    verdict = judge(baseline(after), baseline(before))
    assert verdict.passed
    assert [move.direction for move in verdict.moves] == ["better"] * 3


@pytest.mark.parametrize("lost", [{"text": None, "score": 0.0}, {"score": math.nan}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_lost_is_a_regression_under_every_rule(lost: dict[str, Any], dtype: str) -> None:
    before = [replace(answer, gap=TIE / 10) for answer in HUNDRED]
    run, kept = (
        baseline([replace(before[0], **lost), *before[1:]], dtype=dtype, threads=1),
        baseline(before, dtype=dtype),
    )
    for limits in (Limits(), Limits(max_drop=50.0)):
        verdict = judge(run, kept, limits)
        assert ([move.direction for move in verdict.moves], verdict.passed) == (["lost"], False)


@pytest.mark.parametrize(("points", "passes"), [(4.9, False), (5.0, True), (100.0, True), (0.0, False)])
def test_a_greatest_drop_is_judged_by_the_score_alone(points: float, passes: bool) -> None:
    before, after = moved(5, 0.5)
    verdict = judge(baseline(after), baseline(before), Limits(max_drop=points))
    assert (verdict.mode, verdict.passed) == ("drop", passes)
    assert all(move.allowed for move in verdict.moves)
    said = ("fell by 5.0 points: 100.0% -> 95.0%, allowed " + f"{points:g}",)
    assert verdict.tasks[0].shortfalls == (() if passes else said)


@pytest.mark.parametrize(("least", "passes"), [(99.0, True), (99.1, False)])
def test_a_least_score_is_judged_beside_the_rest(least: float, passes: bool) -> None:
    answers = [replace(HUNDRED[0], score=0.0), *HUNDRED[1:]]
    verdict = judge(baseline(answers), baseline(answers), Limits(min_scores={"pope": least}))
    assert (verdict.mode, verdict.passed) == ("exact", passes)
    assert verdict.tasks[0].shortfalls == (() if passes else ("is 99.0%, below 99.1%",))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(min_scores={"seed": 1.0}), "--min-score: the baseline has no task seed; it has pope"),
        (Limits(min_scores={"pope": 1.0}), "no question of pope has a score"),
        (Limits(max_drop=1.0), "no question of pope has a score"),
    ],
)
def test_limits_that_say_nothing_are_refused(limits: Limits, message: str) -> None:
    unscored = baseline([replace(answer, score=math.nan) for answer in HUNDRED])
    with pytest.raises(UserError, match=message):
        judge(unscored, unscored, limits)


def test_no_drop_can_be_told_from_a_baseline_without_scores() -> None:
    unscored = baseline([replace(answer, score=math.nan) for answer in HUNDRED])
    with pytest.raises(UserError, match="no question of pope has a score"):
        judge(baseline(HUNDRED), unscored, Limits(max_drop=1.0))


def test_a_baseline_of_a_resumed_run_is_of_no_single_environment() -> None:
    resumed = Baseline(replace(HERE, resumed=7), {"pope": tuple(HUNDRED)})
    verdict = judge(baseline(HUNDRED), resumed)
    assert (verdict.mode, verdict.passed) == ("near", True)
    assert verdict.differences == ("answers: all of this run (baseline: 7 of an earlier run)",)


@pytest.mark.parametrize(("gap", "allowed"), [(TIE / 2, True), (TIE, False), (0.5, False), (math.nan, False)])
def test_elsewhere_only_ties_may_flip(gap: float, allowed: bool) -> None:
    before, after = moved(1, gap)
    verdict = judge(baseline(after, processor="another"), baseline(before))
    assert verdict.mode == "near"
    assert verdict.differences == ("processor: another (baseline: one)",)
    assert verdict.passed == allowed


@pytest.mark.parametrize(
    "environment",
    [
        {"packages": {"torch": "2.15"}},
        {"packages": {"torch": "2.14", "transformers": "5.24"}},
        {"batch_size": 8},
        {"threads": 2},
        {"device": "cuda"},
        {"attention": "eager"},
    ],
)
def test_what_can_change_the_arithmetic_is_another_environment(environment: dict[str, Any]) -> None:
    assert judge(baseline(HUNDRED, **environment), baseline(HUNDRED)).mode == "near"


def test_our_own_version_is_what_is_judged_and_not_the_environment() -> None:
    newer = {"packages": {"torch": "2.14", "dualfocus-eval": "0.2"}}
    assert judge(baseline(HUNDRED, **newer), baseline(HUNDRED)).mode == "exact"


def test_elsewhere_many_ties_that_all_get_worse_are_a_regression() -> None:
    few, many = (moved(count, TIE / 2) for count in (4, 5))
    assert judge(baseline(few[1], threads=1), baseline(few[0])).passed
    verdict = judge(baseline(many[1], threads=1), baseline(many[0]))
    assert all(move.allowed for move in verdict.moves)
    assert verdict.tasks[0].p_worse == pytest.approx(0.5**5)
    assert not verdict.passed


def test_in_other_precisions_the_score_alone_decides() -> None:
    for count, passes in ((4, True), (5, False)):
        before, after = moved(count, 0.5)
        verdict = judge(baseline(after, dtype="bfloat16"), baseline(before, dtype="bfloat16"))
        assert (verdict.mode, verdict.passed) == ("score", passes)


def test_several_tasks_share_the_significance() -> None:
    before, after = moved(5, TIE / 2)
    tasks = {"one": tuple(before), "two": tuple(HUNDRED)}
    elsewhere = baseline(after, threads=1).provenance
    verdict = judge(Baseline(elsewhere, tasks | {"one": tuple(after)}), Baseline(HERE, tasks))
    assert [task.p_worse for task in verdict.tasks] == pytest.approx([2 * 0.5**5, 1.0])
    assert SIGNIFICANT < 2 * 0.5**5
    assert verdict.passed


def test_an_image_with_many_questions_counts_once() -> None:
    before, after = moved(20, TIE / 2)
    shared = [replace(answer, cluster=f"image {answer.doc_id // 20}") for answer in after]
    assert judge(baseline(shared, threads=1), baseline(before)).tasks[0].p_worse == 0.5


def test_a_failed_question_has_moved() -> None:
    after = [replace(HUNDRED[0], text=None, score=0.0), *HUNDRED[1:]]
    assert not judge(baseline(after, threads=1), baseline(HUNDRED)).passed


def test_questions_without_a_score_are_compared_by_their_answers() -> None:
    before = [replace(answer, score=math.nan) for answer in HUNDRED]
    assert judge(baseline(before), baseline(before)).passed
    assert not judge(baseline([replace(before[0], text="no"), *before[1:]]), baseline(before)).passed


BASELINES = sorted((resource_folder("reports") / "baselines").glob("*.json"))


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_the_committed_baselines_match_a_run_under_todays_names(path: Path) -> None:
    kept = load_baseline(path)
    settings = resolve({}).settings
    verdict = judge(replace(kept, provenance=replace(kept.provenance, settings=asdict(settings))), kept)
    assert (verdict.passed, verdict.mode, verdict.moves, verdict.settings) == (True, "exact", (), ())


def test_a_setting_that_the_baseline_does_not_have_yet_had_its_default() -> None:
    def run_with(**settings: Any) -> Baseline:
        return Baseline(replace(HERE, settings={"margin": 25.0} | settings), {"pope": tuple(HUNDRED)})

    assert judge(run_with(**asdict(Settings())), baseline(HUNDRED)).settings == ()
    assert judge(run_with(jitter_seed=5), baseline(HUNDRED)).settings == ("jitter_seed: 5 (baseline: 0)",)


def test_other_settings_are_named_and_excuse_nothing() -> None:
    other = Baseline(replace(HERE, settings={"margin": 0.0}), {"pope": tuple(HUNDRED)})
    verdict = judge(other, baseline(HUNDRED))
    assert verdict.settings == ("margin: 0.0 (baseline: 25.0)",)
    assert verdict.passed
    worse = replace(other, tasks={"pope": tuple(moved(1, TIE / 2)[1])})
    assert not judge(worse, baseline(HUNDRED)).passed


def test_a_larger_run_is_judged_by_the_questions_of_the_baseline() -> None:
    run = Baseline(HERE, {"other": (answered(0),), "pope": (*HUNDRED, answered(100, "no", 0.0))})
    verdict = judge(run, baseline(HUNDRED))
    assert (verdict.passed, verdict.questions, verdict.unjudged) == (True, 100, ("other",))


SAMPLE, WHOLE = "tiny-0123456789abcdef", "tiny-0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("run", "kept", "message"),
    [
        (
            WHOLE,
            SAMPLE,
            "the baseline names its checkpoint by a sample .* make a new one from a good run with --update",
        ),
        (SAMPLE, SAMPLE, "the baseline names its checkpoint by a sample"),
        (SAMPLE, WHOLE, "the run names its checkpoint by a sample of its weights .* run again"),
    ],
)
def test_a_checkpoint_known_by_a_sample_of_its_weights_is_not_compared(run: str, kept: str, message: str) -> None:
    here, there = (Baseline(replace(HERE, checkpoint=name), {"pope": tuple(HUNDRED)}) for name in (run, kept))
    with pytest.raises(UserError, match=message):
        judge(here, there)


def test_the_folder_of_a_checkpoint_may_have_another_name() -> None:
    moved_folder = Baseline(replace(HERE, checkpoint="other-name-abc"), {"pope": tuple(HUNDRED)})
    assert judge(moved_folder, baseline(HUNDRED)).passed


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Baseline(replace(HERE, checkpoint="tiny-def"), {}), r"another checkpoint.*tiny-def.*tiny-abc.*--update"),
        (baseline(HUNDRED, dtype="bfloat16"), r"in bfloat16, the baseline in float32; pass dtype=float32"),
        (baseline(HUNDRED, task="seed"), r"lacks 1 of the baseline's tasks: pope"),
        (baseline(HUNDRED[:95]), r"5 of the 100 questions of pope were not asked: pope/95, pope/96, pope/97, \.\.\."),
        (
            baseline([replace(HUNDRED[0], question="another"), *HUNDRED[1:]]),
            r"1 of the 100 questions of pope are not the baseline's .*: pope/0$",
        ),
    ],
)
def test_what_cannot_be_judged_is_named(run: Baseline, message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge(run, baseline(HUNDRED))


SERVED = {"server": "vllm 0.32.0", "system_fingerprint": "vllm-0.32.0-1", "packages": {}, "batch_size": 1}


def served(answers: Sequence[Answer], checkpoint: str = "tiny-0f", **environment: Any) -> Baseline:
    """Of a server, which tells neither files nor precision."""
    return Baseline(replace(HERE, checkpoint=checkpoint, environment=SERVED | environment), {"pope": tuple(answers)})


@pytest.mark.parametrize(("gap", "passed"), [(TIE / 10, True), (0.5, False)])
def test_a_server_is_judged_by_the_engine_in_process_only_on_request(gap: float, passed: bool) -> None:
    before, after = moved(1, gap)
    for run, reference in ((served(after), baseline(before)), (baseline(after), served(before))):
        with pytest.raises(UserError, match=r"another engine \(.*\) than the baseline \(.*pass --other-engine"):
            judge(run, reference)
    verdict = judge(served(after), baseline(before), other_engine=True)
    assert (verdict.mode, verdict.passed) == ("near", passed)
    assert verdict.differences == ("engine: server (vllm 0.32.0) (baseline: in process (float32 on unknown device))",)
    with pytest.raises(UserError, match="leave it out"):
        judge(served(after), served(before), other_engine=True)


def test_two_runs_of_servers_are_judged_by_their_scores() -> None:
    before, after = moved(1, 0.5)
    verdict = judge(served(after, server="vllm 0.33.0"), served(before))
    assert (verdict.mode, verdict.passed, len(verdict.moves)) == ("score", True, 1)
    assert verdict.differences == ("server: vllm 0.33.0 (baseline: vllm 0.32.0)",)
    assert not judge(served(moved(20, 0.5)[1]), served(moved(20, 0.5)[0])).passed
    with pytest.raises(UserError, match="another checkpoint"):
        judge(served(after, "other-1"), served(before))
