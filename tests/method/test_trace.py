import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.engines.base import Completion, Counters, Failure
from dualfocus_eval.method.boxes import Box, BoxOutcome
from dualfocus_eval.method.crops import Crop
from dualfocus_eval.method.selection import RULES, Decision
from dualfocus_eval.method.trace import (
    ContextScores,
    Cost,
    Fallback,
    Grounding,
    ImageInfo,
    Trace,
    TraceFormatError,
)

texts = st.text(st.characters())
natural = st.integers(0, 10**6)
logprobs = st.lists(st.floats(max_value=0, allow_nan=False, allow_infinity=False), max_size=4).map(tuple)
completions = st.builds(
    Completion,
    texts,
    st.lists(natural, max_size=4).map(tuple),
    logprobs,
    st.sampled_from(["eos", "stop", "length"]),
    st.none() | st.floats(0, 100),
)
unit = st.floats(0, 1)
failures = st.builds(Failure, texts, texts)
pathways = st.sampled_from(["macro", "micro"])
traces = st.builds(
    Trace,
    texts,
    texts,
    texts,
    texts,
    st.lists(st.builds(ImageInfo, texts, natural, natural), max_size=2).map(tuple),
    st.none() | completions,
    st.none() | completions,
    st.none()
    | st.builds(
        Grounding,
        completions,
        st.sampled_from(BoxOutcome),
        st.none() | st.builds(Box, unit, unit, unit, unit),
        st.none() | st.builds(Crop, natural, natural, natural, natural),
    ),
    st.none() | st.builds(ContextScores, st.sampled_from(["answer", "option_text"]), logprobs, logprobs),
    st.dictionaries(st.sampled_from(RULES), pathways),
    st.none() | pathways,
    st.none() | st.sampled_from(Decision),
    st.booleans(),
    st.none() | st.sampled_from([*BoxOutcome, *Fallback]),
    st.none() | failures,
    st.none() | failures,
    st.none()
    | st.builds(Cost, natural, natural, natural, natural, natural, natural, st.dictionaries(texts, st.floats(0, 1e6))),
)


@given(traces)
def test_a_trace_survives_json(trace: Trace) -> None:
    line = trace.to_json()
    assert line.isascii()
    assert "\n" not in line
    assert Trace.from_json(line) == trace
    assert Trace.from_json(line.encode()) == trace


def answered(**changes: object) -> Trace:
    macro, micro = (Completion(text, (1, 0), (-0.5, -0.5), "eos") for text in ("red", "blue"))
    trace = Trace(
        "q",
        "digest",
        "key",
        "short",
        (),
        macro,
        micro,
        picks={"own": "micro", "micro": "macro", "released": "macro"},
        selected="macro",
        decision=Decision.NLL,
    )
    return replace(trace, **changes)


def test_the_answer_is_the_selected_candidate() -> None:
    assert answered().text == "red"
    assert answered(selected="micro").text == "blue"
    assert answered(selected=None, error=Failure("out_of_memory", "")).text == ""


def test_numbers_that_are_not_finite_stay_strict_json() -> None:
    trace = answered(macro=Completion("red", (1,), (-math.inf,), "eos"))
    line = trace.to_json()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = Trace.from_json(line).macro
    assert back is not None
    assert math.isnan(back.nll)


def test_a_trace_of_the_first_version_has_an_unknown_gap() -> None:
    old = json.loads(answered().to_json()) | {"version": 1}
    for pathway in ("macro", "micro"):
        del old[pathway]["gap"]
    trace = Trace.from_json(json.dumps(old))
    assert trace == answered(version=1)
    assert trace.macro is not None
    assert trace.macro.gap is None


def test_another_rule_on_a_stored_trace() -> None:
    trace = answered()
    assert trace.reselected("own").text == "blue"
    assert trace.reselected("released").text == "red"
    without = answered(picks={"own": "micro"}, selected="micro")
    failed = without.reselected("micro")
    assert (failed.text, failed.decision, failed.fallback) == ("red", Decision.NO_SCORES, "scoring_failed")
    assert failed.reselected("own") == without
    only = answered(micro=None, picks={}, decision=Decision.ONLY_CANDIDATE, fallback="unparsable")
    assert only.reselected("own") == only


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "[]",
        "null",
        "7",
        '{"version": 2}',
        answered().to_json()[:-5],
        answered().to_json().replace('"version":2', '"version":3'),
        answered().to_json().replace('"nll"', '"dice"'),
        answered().to_json().replace('"kind"', '"sort"'),
        b"\xff\xfe",
    ],
)
def test_what_is_no_trace_is_named(line: str | bytes) -> None:
    with pytest.raises(TraceFormatError):
        Trace.from_json(line)


@given(st.text() | st.binary())
def test_any_line_is_a_trace_or_named(line: str | bytes) -> None:
    with pytest.raises(TraceFormatError):
        Trace.from_json(line)


def test_a_cost_is_the_difference_of_two_counters() -> None:
    before = Counters(1, 100, 10, 5, 0, {"vision": 1.0})
    after = Counters(3, 250, 60, 9, 1, {"vision": 1.5, "decode": 2.0})
    assert Cost.between(before, after, 4) == Cost(4, 2, 150, 50, 4, 1, {"vision": 0.5, "decode": 2.0})
