import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Completion, Counters, Failure, Thinking
from dualfocus_eval.method.boxes import BoxOutcome
from dualfocus_eval.traces.record import (
    ContextScores,
    Cost,
    Decision,
    Fallback,
    Grounding,
    ImageInfo,
    Trace,
    TraceFormatError,
)

texts = st.text(st.characters())
RULES = ("own_context", "micro_context", "released")
natural = st.integers(0, 10**6)
logprobs = st.lists(st.floats(-1e6, 0), max_size=4).map(tuple)
completions = st.builds(
    Completion,
    texts,
    st.lists(natural, max_size=4).map(tuple),
    logprobs,
    st.sampled_from(["eos", "stop", "length"]),
    st.none() | st.floats(0, 100),
    st.none() | st.builds(Thinking, texts, natural),
)
methods = st.none() | st.tuples(texts, texts)
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
        st.none() | completions,
        st.sampled_from(BoxOutcome) | texts,
        st.none() | st.builds(Box, unit, unit, unit, unit),
        st.none() | st.builds(Crop, natural, natural, natural, natural),
        texts,
    ),
    st.none() | texts,
    st.none() | st.builds(ContextScores, st.sampled_from(["answer", "option_text"]), logprobs, logprobs, methods),
    st.dictionaries(st.sampled_from(RULES) | texts, pathways),
    st.none() | pathways,
    st.none() | st.sampled_from(Decision) | texts,
    st.booleans(),
    st.none() | st.sampled_from([*BoxOutcome, *Fallback]) | texts,
    st.none() | failures,
    st.none() | failures,
    st.none()
    | st.builds(Cost, natural, natural, natural, natural, natural, natural, st.dictionaries(texts, st.floats(0, 1e6))),
    st.dictionaries(texts, texts, max_size=2),
)


@given(traces)
def test_a_trace_survives_json(trace: Trace) -> None:
    line = trace.to_json()
    assert line.isascii()
    assert "\n" not in line
    assert Trace.from_json(line) == trace
    assert Trace.from_json(line.encode()) == trace


def test_a_completion_without_thinking_is_written_as_before_there_was_any() -> None:
    plain = Completion("red", (40, 2), (-0.5, -0.25), "eos", 0.5)
    trace = Trace("pope/0", "d", "s", "yes_no", (), macro=plain, micro=replace(plain, thinking=Thinking("so", 3)))
    macro = '{"text":"red","token_ids":[40,2],"logprobs":[-0.5,-0.25],"finish":"eos","gap":0.5'
    assert f'"macro":{macro}}},"micro":{macro},"thinking":{{"text":"so","tokens":3}}}}' in trace.to_json()


def test_scores_of_an_engine_in_process_are_written_as_before_there_were_servers() -> None:
    scores = ContextScores("answer", (-0.5,), (-0.25,))
    trace = Trace("pope/0", "d", "s", "yes_no", (), scores=scores)
    assert '"scores":{"scored":"answer","macro":[-0.5],"micro":[-0.25]},' in trace.to_json()
    served = replace(trace, scores=replace(scores, methods=("by_token", "prompt")))
    assert Trace.from_json(served.to_json()) == served


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
        picks={"own_context": "micro", "micro_context": "macro", "released": "macro"},
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


def read_old(version: int) -> list[Trace]:
    """Lines that the code of that version wrote."""
    lines = (Path(__file__).parent / "old" / f"{version}.jsonl").read_bytes().splitlines()
    return [Trace.from_json(line) for line in lines]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_traces_of_older_versions_are_read(version: int) -> None:
    gap = None if version == 1 else 0.25
    arithmetic = {} if version < 3 else {"torch": "2.15.0", "device": "cpu"}

    def text(words: str, ids: tuple[int, ...], *logprobs: float) -> Completion:
        return Completion(words, ids, logprobs, "eos", gap)

    scored, letter, nowhere, failed = read_old(version)
    grounding = Grounding(
        text("[0.10, 0.20, 0.50, 0.60]", (40, 41, 2), -0.5, -0.25, -0.125),
        BoxOutcome.OK,
        Box(0.1, 0.2, 0.5, 0.6),
        Crop(39, 39, 345, 345),
        "text_box",
    )
    assert scored == Trace(
        "set/0",
        "d0",
        "key",
        "short",
        (ImageInfo("5e", 640, 480),),
        text("red", (40, 2), -0.5, -0.75),
        text("blue", (40, 2), -0.25, -0.5),
        grounding,
        "append_crop",
        ContextScores("answer", (-0.5, -1.0), (-0.25, -0.5)),
        {"own_context": "micro", "micro_context": "micro", "released": "macro"},
        "micro",
        Decision.NLL,
        cost=Cost(4, 6, 900, 300, 12, 0, {"vision": 0.5}),
        arithmetic=arithmetic,
    )
    assert (letter.decision, letter.picks) == (Decision.ONLY_VALID_OPTION, dict.fromkeys(RULES, "macro"))
    assert nowhere.macro is not None
    assert math.isnan(nowhere.macro.logprobs[1])
    assert (nowhere.fallback, nowhere.second_pass, nowhere.micro) == ("unparsable", None, None)
    assert (failed.error, failed.selected) == (Failure("out_of_memory", "one row does not fit"), None)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_old_trace_is_written_anew_as_one_of_today(version: int) -> None:
    for trace in read_old(version):
        line = trace.to_json()
        assert json.loads(line)["version"] == 4
        assert Trace.from_json(line).to_json() == line


def test_names_of_what_is_not_installed_are_kept() -> None:
    trace = answered(
        picks={"by_dice": "micro"},
        decision="dice",
        fallback="no_detection",
        grounding=Grounding(None, "no_detection", method="detector"),
        second_pass="highlight",
    )
    assert Trace.from_json(trace.to_json()) == trace


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
        answered().to_json().replace('"version":4', '"version":5'),
        answered().to_json().replace('"arithmetic":{}', '"arithmetic":[]'),
        answered().to_json().replace('"nll"', "7"),
        answered().to_json().replace('"kind"', '"sort"'),
        b"\xff\xfe",
    ],
)
def test_what_is_no_trace_is_named(line: str | bytes) -> None:
    with pytest.raises(TraceFormatError):
        Trace.from_json(line)


PATHS = [
    ("key",), ("question_digest",), ("images",), ("images", 0), ("images", 0, "digest"), ("images", 0, "width"),
    ("macro", "text"), ("macro", "token_ids"), ("macro", "token_ids", 0), ("macro", "logprobs"),
    ("macro", "logprobs", 0), ("macro", "finish"), ("macro", "gap"), ("grounding", "response"),
    ("grounding", "outcome"),
    ("grounding", "box", "x1"), ("grounding", "crop", "left"), ("scores", "scored"), ("scores", "macro", 0),
    ("picks",), ("picks", "own_context"), ("selected",), ("decision",), ("skipped_micro",), ("error",),
    ("cost", "questions"), ("second_pass",), ("grounding", "method"),
    ("cost", "seconds"), ("cost", "seconds", "decode"),
]  # fmt: skip
NULL_FITS = ("logprobs.0", "macro.0", "gap", "selected", "decision", "error", "second_pass", "response")
TEXT_FITS = ("key", "question_digest", "digest", "text", "scored", "outcome", "decision", "second_pass", "method")
OBJECT_FITS = ("picks", "seconds")
FULL = replace(
    answered(),
    images=(ImageInfo("image", 4, 3),),
    grounding=Grounding(Completion("box", (1,), (-0.5,), "eos"), BoxOutcome.OK, Box(0, 0, 1, 1), Crop(0, 0, 4, 3)),
    scores=ContextScores("answer", (-0.5,), (-0.25,)),
    cost=Cost(1, 1, 10, 0, 3, 0, {"decode": 0.5}),
)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_value_of_another_type_or_size_is_named(path: tuple[str | int, ...]) -> None:
    place = ".".join(map(str, path))
    wrong = [math.inf, 1e308, 10**400, ["x"]]
    wrong += [None] * (not place.endswith(NULL_FITS)) + ["x"] * (path[-1] not in TEXT_FITS)
    wrong += [{}] * (path[-1] not in OBJECT_FITS)
    for value in wrong:
        fields = json.loads(FULL.to_json())
        owner = fields
        for step in path[:-1]:
            owner = owner[step]
        owner[path[-1]] = value
        with pytest.raises(TraceFormatError, match=str(path[0])):
            Trace.from_json(json.dumps(fields))


def test_a_line_nested_too_deeply_is_no_trace() -> None:
    with pytest.raises(TraceFormatError):
        Trace.from_json("[" * 200_000)


def test_a_trace_lacks_no_field() -> None:
    for name in json.loads(FULL.to_json()):
        fields = json.loads(FULL.to_json())
        del fields[name]
        with pytest.raises(TraceFormatError, match=name):
            Trace.from_json(json.dumps(fields))


@given(st.text() | st.binary())
def test_any_line_is_a_trace_or_named(line: str | bytes) -> None:
    with pytest.raises(TraceFormatError):
        Trace.from_json(line)


def test_a_cost_is_the_difference_of_two_counters() -> None:
    before = Counters(1, 100, 10, 5, 0, {"vision": 1.0})
    after = Counters(3, 250, 60, 9, 1, {"vision": 1.5, "decode": 2.0})
    assert Cost.between(before, after, 4) == Cost(4, 2, 150, 50, 4, 1, {"vision": 0.5, "decode": 2.0})
