"""A calibrated choice as a selection rule: what it picks, what it needs, and the files that are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.harness.summary import Summary
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.question import AnswerKind
from dualfocus_eval.method.selection import RULES, costs_of, label_of, needs_of, picks, reselect
from dualfocus_eval.method.selection.base import Candidates
from dualfocus_eval.method.selection.calibration import (
    Calibration,
    Regression,
    is_calibration,
    load_calibration,
    save_calibration,
    signed,
)
from dualfocus_eval.method.selection.features import answer_kind, features_of
from dualfocus_eval.method.settings import Settings, not_installed, settings_key, stored_settings
from dualfocus_eval.traces.record import ContextScores, Decision, Trace
from dualfocus_eval.traces.store import TraceStore
from tests.calibrations import by_one
from tests.method.test_pipeline import ask, prefer, rule
from tests.scripted_engine import ScriptedEngine

NLLS = st.floats(0, 20)


def said(text: str, nll: float) -> Completion:
    return Completion(text, (1,), (-nll,), "eos")


def pair(own: tuple[float, float], context: tuple[float, float], **changes: Any) -> Candidates:
    scores = ContextScores("answer", (-context[0],), (-context[1],))
    found = Candidates(said("red", own[0]), said("blue", own[1]), None, scores, "short", Box(0.1, 0.1, 0.3, 0.6))
    return replace(found, **changes)


@given(st.tuples(NLLS, NLLS), st.tuples(NLLS, NLLS), st.floats(0.01, 100))
def test_with_nothing_but_the_difference_it_selects_as_the_perplexity_rule(
    own: tuple[float, float], context: tuple[float, float], weight: float
) -> None:
    # Below that, the two costs are the same number: about log 2, of which a double has 16 digits.
    assume(all(one == other or abs(one - other) * weight > 1e-12 for one, other in (own, context)))
    candidates = pair(own, context)
    for name, feature in (("own_context", "own_difference"), ("micro_context", "context_difference")):
        fitted = by_one(feature, weight)
        found = picks(candidates, fitted)
        assert found[fitted.name] == found[name]


def test_its_costs_are_the_nlls_of_being_the_better_one() -> None:
    macro, micro = by_one("own_difference", 1.0).costs(pair((3.0, 1.0), (0.0, 0.0))) or (math.nan, math.nan)
    assert math.exp(-macro) + math.exp(-micro) == pytest.approx(1.0)
    assert macro - micro == pytest.approx(2.0)
    far = by_one("own_difference", 1e6).costs(pair((3.0, 1.0), (0.0, 0.0)))
    assert far == (pytest.approx(2e6), pytest.approx(0.0))


def test_every_feature_that_is_known_has_a_number() -> None:
    found = features_of(pair((0.5, 0.25), (2.0, 1.5)))
    assert found == {
        "own_macro": 0.5, "own_micro": 0.25, "own_difference": 0.25,
        "context_macro": 2.0, "context_micro": 1.5, "context_difference": 0.5,
        "shared_words": 0.0, "box_area": pytest.approx(math.log(0.1)),
    }  # fmt: skip
    red = pair((0.5, 0.25), (2.0, 1.5), macro=said("The red car", 0.5), micro=said("a red bus", 0.25))
    assert features_of(red)["shared_words"] == pytest.approx(1 / 3)
    for nll, known in ((0.75, 0.75), (0.0, 1e-4)):
        found = features_of(pair((1, 1), (1, 1), grounding_response=said("[0, 0, 1, 1]", nll)))
        assert found["box_nll"] == pytest.approx(math.log(known))
    told = Completion("[0, 0, 1, 1]", (1,), (), "eos")
    assert "box_nll" not in features_of(pair((1, 1), (1, 1), grounding_response=told))


@pytest.mark.parametrize(
    ("macro", "micro", "kind", "found"),
    [
        ("Yes", "no.", AnswerKind.YES_NO, "yes_then_no"),
        ("no", "Yes", AnswerKind.SHORT, "no_then_yes"),
        ("Yes", "perhaps", AnswerKind.YES_NO, "yes_no"),
        ("Yes", "No", AnswerKind.OPTION, "option"),
        ("red", "blue", AnswerKind.SHORT, "short"),
    ],
)
def test_the_kind_says_which_pathway_says_yes(macro: str, micro: str, kind: AnswerKind, found: str) -> None:
    assert answer_kind(pair((1, 1), (1, 1), macro=said(macro, 1), micro=said(micro, 1), kind=kind)) == found


@pytest.mark.parametrize(
    "changes",
    [{"macro": said("red", math.inf)}, {"kind": "open"}],
    ids=["not finite", "another kind"],
)
def test_what_it_does_not_know_it_does_not_choose(changes: dict[str, Any]) -> None:
    fitted = by_one("own_difference", kinds=("short",))
    assert fitted.costs(pair((1.0, 2.0), (1.0, 2.0))) is not None
    assert fitted.costs(pair((1.0, 2.0), (1.0, 2.0), **changes)) is None


def test_each_kind_of_answers_has_its_own_regression() -> None:
    towards_micro, towards_macro = (Regression(intercept, ()) for intercept in (1.0, -1.0))
    fitted = by_one("own_difference")
    fitted = signed(replace(fitted, kinds={"short": towards_micro, "open": towards_macro}))
    for kind, wanted in (("short", "micro"), ("open", "macro")):
        assert picks(pair((1.0, 1.0), (1.0, 1.0), kind=AnswerKind(kind)), fitted)[fitted.name] == wanted


def test_what_it_does_not_look_at_may_be_missing() -> None:
    fitted = by_one("own_difference")
    assert fitted.costs(pair((1.0, 2.0), (1.0, 2.0), box=None, scores=None)) is not None
    by_box = by_one("box_nll")
    assert by_box.costs(pair((1.0, 2.0), (1.0, 2.0))) is None
    assert by_box.needs == {"micro_context_scores", "grounding_response"}


def asked(fitted: Calibration, **given: Any) -> list[Trace]:
    """Two questions whose micro answer is the likelier one in its own pathway, and the macro answer in the context."""
    engine = ScriptedEngine(rule(macro=("blue", 0.9), micro=("green", 0.2)), nll=prefer("blue"))
    settings = Settings(selection=fitted.name)
    return answer([ask(0), ask(1)], engine, settings, fitted=fitted, **given)


def test_it_decides_in_a_run() -> None:
    by_own, by_context = by_one("own_difference"), by_one("context_difference")
    assert [(trace.selected, trace.decision) for trace in asked(by_own)] == [("micro", Decision.NLL)] * 2
    assert [trace.selected for trace in asked(by_context)] == ["macro"] * 2


def test_it_decides_on_stored_traces_as_in_a_run_and_leaves_no_pick_in_them(tmp_path: Path) -> None:
    by_own, by_context = by_one("own_difference"), by_one("context_difference")
    with TraceStore(tmp_path, "key", arithmetic={}) as store:
        before = asked(by_own, store=store)
        again = asked(by_context, store=store)
        assert store.reused == 2
    assert [(one.selected, other.selected) for one, other in zip(before, again, strict=True)] == [
        ("micro", "macro")
    ] * 2
    assert all(set(trace.picks) == set(RULES.items) for trace in (*before, *again))
    for trace in before:
        stored = Trace.from_json(trace.to_json())
        assert costs_of(stored, by_own)[by_own.name] == costs_of(trace, by_own)[by_own.name]
        assert reselect(stored, by_context.name, by_context).selected == "macro"
        assert reselect(reselect(stored, by_context.name, by_context), "own_context").selected == "micro"


def test_a_question_that_it_cannot_judge_falls_back_by_name_and_is_counted() -> None:
    traces = asked(by_one("own_difference", kinds=("open",)))
    assert [(trace.selected, trace.decision, trace.fallback) for trace in traces] == [
        ("macro", Decision.NO_SCORES, "not_calibrated")
    ] * 2
    summary = Summary()
    for trace in traces:
        summary.add_trace(trace)
    assert summary.fallbacks == {"not_calibrated": 2}
    unscored = replace(traces[0], scores=None)
    fitted = by_one("context_difference")
    assert reselect(unscored, fitted.name, fitted).fallback == "scoring_failed"
    assert reselect(traces[0], fitted.name, fitted).fallback is None


def test_questions_about_images_of_the_fit_are_counted() -> None:
    blind = by_one("own_difference")
    (first, second) = asked(blind)
    seeing = by_one("own_difference", images=(first.images[0].digest[:16],))
    summary = Summary()
    for trace in (first, replace(second, images=())):
        summary.add_trace(trace, seeing)
        summary.add_trace(trace, blind)
    assert summary.fitted_on == 1
    assert any(line.startswith("1 of 4 questions are about images that") for line in summary.warnings)


def test_it_is_a_rule_by_its_content() -> None:
    fitted = by_one("own_difference")
    assert is_calibration(fitted.name)
    assert fitted.name == by_one("own_difference").name != by_one("own_difference", 4.0).name
    assert needs_of(fitted.name) == fitted.needs == {"micro_context_scores"}
    assert label_of(fitted.name) == fitted.label
    settings = Settings(selection=fitted.name, score_all=False)
    assert settings.scores_candidates
    assert settings_key(settings, {}) == settings_key(Settings(), {})
    assert not_installed({"selection": fitted.name}) == {}
    assert stored_settings({"selection": fitted.name})["selection"] == fitted.name
    with pytest.raises(ValueError, match="is a file"):
        Settings(selection="mine.json")


def test_its_file_holds_all_of_it(tmp_path: Path) -> None:
    fitted = by_one("box_area", 0.1 + 0.2, images=("0123456789abcdef",))
    save_calibration(fitted, tmp_path / "new" / "c.json")
    assert load_calibration(tmp_path / "new" / "c.json") == fitted


Change = Callable[[dict[str, Any]], Any]


def term(content: dict[str, Any]) -> dict[str, Any]:
    return content["kinds"]["short"]["terms"][0]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda content: content.update(version=0), "version 0, and this package reads 1"),
        (lambda content: content.update(format=7), "format 7, and this package reads 1"),
        (lambda content: content.pop("kinds"), "it lacks format, version, kinds or digest"),
        (lambda content: content["kinds"]["short"].pop("intercept"), "intercept is missing"),
        (lambda content: content["kinds"]["short"].update(intercept="much"), "intercept: 'much' is not a number"),
        (lambda content: term(content).update(feature="mood"), "unknown feature 'mood'"),
        (lambda content: term(content).update(scale=0), "scale: 0 must be above 0"),
        (lambda content: term(content).update(coefficient=2.5), "was changed since it was written"),
        (lambda content: content.update(model="other"), "was changed since it was written"),
        (lambda content: content.update(comment="mine"), "unknown key 'comment'"),
    ],
)
def test_a_file_that_is_not_one_is_refused_by_name(tmp_path: Path, change: Change, wanted: str) -> None:
    path = tmp_path / "c.json"
    save_calibration(by_one("own_difference"), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"^calibration {path}.*{wanted}"):
        load_calibration(path)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(None, "does not exist"), ("{", "cannot be read"), ("[1]", "is none"), ("\xff", "cannot be read")],
)
def test_no_calibration_at_all_is_refused_by_name(tmp_path: Path, text: str | None, wanted: str) -> None:
    path = tmp_path / "c.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"^calibration {path}.*{wanted}"):
        load_calibration(path)
