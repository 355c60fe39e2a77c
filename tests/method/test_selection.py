import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.engines.base import Completion
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.method.selection import RULES, costs, picks, picks_of, reselect
from dualfocus_eval.method.selection.base import Candidates
from dualfocus_eval.method.selection.deciding import is_confident, lower_nll, normalised, settled
from dualfocus_eval.method.selection.released import RELEASED
from dualfocus_eval.traces.record import ContextScores, Decision, Trace


def generated(*logprobs: float) -> Completion:
    return Completion("", tuple(range(len(logprobs))), logprobs, "eos")


def test_the_lower_nll_wins_and_micro_wins_a_tie() -> None:
    assert lower_nll(0.1, 0.2) == "macro"
    assert lower_nll(0.2, 0.1) == "micro"
    assert lower_nll(0.1, 0.1) == "micro"


def test_an_nll_that_is_no_number_loses() -> None:
    assert lower_nll(math.nan, 5.0) == "micro"
    assert lower_nll(5.0, math.nan) == "macro"
    assert lower_nll(math.nan, math.nan) == "micro"
    assert lower_nll(math.inf, 5.0) == "micro"


@given(st.floats(0, 50), st.floats(0, 50))
def test_nll_and_perplexity_choose_alike(macro: float, micro: float) -> None:
    by_perplexity = "macro" if math.exp(macro) < math.exp(micro) else "micro"
    # The exponential may round two neighbouring values to one.
    assert lower_nll(macro, micro) == by_perplexity or math.isclose(macro, micro, abs_tol=1e-12)


def test_the_released_mean_runs_over_the_box_too_and_favours_length() -> None:
    sure, unsure = [-0.1] * 18, [-2.0] * 18
    macro, micro = released_costs(sure, [-1.0, -1.0], [-0.5])
    assert macro == pytest.approx((18 * 0.1 + 2.0) / 20)
    assert lower_nll(1.0, 0.5) == "micro"
    assert macro > micro
    # Sure of the box, unsure of the answer: the same mean over more tokens costs more here ...
    longer, shorter = released_costs(sure, [-0.5] * 2, [-0.5])
    assert longer > shorter
    # ... and unsure of the box, the longer of two equally sure answers wins.
    longer, shorter = released_costs(unsure, [-0.5] * 2, [-0.5])
    assert longer < shorter


def released_costs(response: list[float], macro: list[float], micro: list[float]) -> tuple[float, float]:
    scores = ContextScores("answer", tuple(macro), tuple(micro))
    found = RELEASED.costs(Candidates(generated(-0.1), generated(-0.1), generated(*response), scores))
    assert found
    return found


def test_every_rule_picks_whose_needs_are_known() -> None:
    macro, micro, grounding_response = generated(-0.1), generated(-0.2), generated(-2.0, -2.0)
    assert picks(Candidates(macro, micro, grounding_response)) == {"own_context": "macro"}
    # In micro context: 0.4 for macro's three tokens, 0.3 for micro's one.
    scores = ContextScores("answer", (-0.4, -0.4, -0.4), (-0.3,))
    known = Candidates(macro, micro, grounding_response, scores)
    assert picks(known) == {"own_context": "macro", "micro_context": "micro", "released": "macro"}
    assert costs(known)["micro_context"] == pytest.approx((0.4, 0.3))
    without_text = Candidates(macro, micro, scores=scores)
    assert picks(without_text) == {"own_context": "macro", "micro_context": "micro"}


def test_confidence_is_an_nll_strictly_below_the_threshold() -> None:
    assert is_confident(generated(-0.1), 0.2)
    assert not is_confident(generated(-0.2), 0.2)
    assert not is_confident(generated(-0.1), None)
    assert not is_confident(generated(-0.1), 0.0)
    assert not is_confident(generated(), 0.7)


def ask(kind: AnswerKind, *options: str) -> Question:
    return Question("k", "?", "?", (), kind, options)


@pytest.mark.parametrize(
    ("macro", "micro", "kind"),
    [
        ("Yes", "yes, there is.", AnswerKind.YES_NO),
        ("No", "no", AnswerKind.YES_NO),
        ("A red car.", "red car", AnswerKind.SHORT),
        ("Stop!", "stop", AnswerKind.SHORT),
        ("", "", AnswerKind.SHORT),
        ("A  clock", "A clock ", AnswerKind.OPEN),
        ("B", "(b)", AnswerKind.OPTION),
        ("\u3002\u72d7\u3002", "\u72d7", AnswerKind.SHORT),
    ],
)
def test_equal_answers_need_no_scores(macro: str, micro: str, kind: AnswerKind) -> None:
    assert settled(macro, micro, ask(kind, *"wxyz")) == ("macro", Decision.AGREEMENT)


@pytest.mark.parametrize(
    ("macro", "micro", "kind"),
    [
        ("Yes", "No", AnswerKind.YES_NO),
        ("Yes", "Not sure", AnswerKind.YES_NO),
        ("red", "blue", AnswerKind.SHORT),
        ("3.5", "35", AnswerKind.SHORT),
        ("-5", "5", AnswerKind.SHORT),
        ("-$5", "$5", AnswerKind.SHORT),
        (".5", "5", AnswerKind.SHORT),
        ("$5", "5", AnswerKind.SHORT),
        ("5%", "5", AnswerKind.SHORT),
        ("C++", "C", AnswerKind.SHORT),
        ("?", "!", AnswerKind.SHORT),
        ("a", "the", AnswerKind.SHORT),
        ("A clock", "a clock", AnswerKind.OPEN),
        ("A", "B", AnswerKind.OPTION),
    ],
)
def test_different_answers_do(macro: str, micro: str, kind: AnswerKind) -> None:
    assert settled(macro, micro, ask(kind, *"wxyz")) is None


@given(st.text(), st.sampled_from(AnswerKind))
def test_normalising_never_raises_and_changes_nothing_the_second_time(text: str, kind: AnswerKind) -> None:
    once = normalised(text, kind, 4)
    assert isinstance(once, str)
    if kind is AnswerKind.OPEN:
        assert normalised(once, kind, 4) == once


def test_the_only_valid_option_wins_and_without_any_macro_does() -> None:
    question = ask(AnswerKind.OPTION, *"wxyz")
    assert settled("Blue", "B", question) == ("micro", Decision.ONLY_VALID_OPTION)
    assert settled("B", "Blue", question) == ("macro", Decision.ONLY_VALID_OPTION)
    assert settled("E", "D", question) == ("micro", Decision.ONLY_VALID_OPTION)
    assert settled("Blue", "Red", question) == ("macro", Decision.NO_VALID_OPTION)


def test_candidates_that_name_the_same_option_agree() -> None:
    question = ask(AnswerKind.OPTION, "red", "blue")
    assert settled("B", "Blue", question) == settled("blue", "(B)", question) == ("macro", Decision.AGREEMENT)
    assert settled("red", "B", question) is None
    assert settled("**B**", "I think the answer is B.", question) == ("macro", Decision.AGREEMENT)


def test_a_letter_in_any_form_is_as_valid_as_the_other_candidates() -> None:
    question = ask(AnswerKind.OPTION, *"wxyz")
    for marked in ("**B**", '"B"', "[B]", "\\boxed{B}", "B\n\nIt is red.", "I think the answer is B"):
        assert settled(marked, "C", question) is None


def test_without_known_options_there_is_no_letter_rule() -> None:
    assert settled("Blue", "B", ask(AnswerKind.OPTION)) is None


def pair(**changes: object) -> Trace:
    """A trace of two candidates that were compared, macro's answer being the surer one in its own pathway."""
    trace = Trace(
        "q",
        "digest",
        "key",
        "short",
        (),
        replace(generated(-0.1), text="red"),
        replace(generated(-0.2), text="blue"),
        picks={"own_context": "macro", "micro_context": "micro", "released": "micro"},
        selected="macro",
        decision=Decision.NLL,
    )
    return replace(trace, **changes)


def test_another_rule_on_a_stored_trace() -> None:
    trace = pair()
    assert reselect(trace, "own_context").text == "red"
    assert reselect(trace, "released").text == "blue"
    without = pair(picks={"own_context": "macro"})
    failed = reselect(without, "micro_context")
    assert (failed.text, failed.decision, failed.fallback) == ("red", Decision.NO_SCORES, "scoring_failed")
    assert reselect(Trace.from_json(failed.to_json()), "own_context") == without
    only = pair(micro=None, picks={}, decision=Decision.ONLY_CANDIDATE, fallback="unparsable")
    assert reselect(only, "own_context") == only


def test_a_rule_that_was_installed_after_the_run_picks_from_what_is_recorded() -> None:
    before = pair(picks={"dice": "micro"})
    assert picks_of(before) == {"dice": "micro", "own_context": "macro"}
    assert reselect(before, "own_context").text == "red"
    assert reselect(before, "dice").text == "blue"
    settled_before = pair(picks={"dice": "micro"}, decision=Decision.ONLY_VALID_OPTION)
    assert picks_of(settled_before) == {"dice": "micro", **dict.fromkeys(RULES.items, "micro")}
