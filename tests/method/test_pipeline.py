from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualfocus_eval.engines.base import Conversation, Failure, Message, Picture
from dualfocus_eval.method.crops import Crop
from dualfocus_eval.method.pipeline import Likelihood, answer, loglikelihood
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Decision
from dualfocus_eval.traces.store import TraceStore
from tests.scripted_engine import Answer, ScriptedEngine, completion, prompt_of, text_ids

BOX = "[0.10, 0.20, 0.50, 0.60]"
OUT_OF_MEMORY = Failure("out_of_memory", "one row does not fit")


def picture(colour: str = "red", size: tuple[int, int] = (200, 100)) -> Picture:
    return Picture(Image.new("RGB", size, colour))


def ask(number: int = 0, **changes: object) -> Question:
    question = Question(f"q{number}", f"Colour {number}? Be brief.", f"Colour {number}?", (picture(),))
    return replace(question, **changes)


def stage(conversation: Conversation) -> str:
    prompt = prompt_of(conversation)
    if prompt.startswith("Please provide") or prompt.endswith("this question asks."):
        return "response"
    return "micro" if prompt.startswith("Please combine") else "macro"


def rule(
    macro: Answer = "blue", micro: Answer = "green", grounding_response: Answer = BOX
) -> Callable[[Conversation], Answer]:
    return lambda conversation: {"macro": macro, "micro": micro, "response": grounding_response}[stage(conversation)]


def stages(engine: ScriptedEngine) -> list[list[str]]:
    return [[stage(request.conversation) for request in requests] for requests in engine.generated]


def prefer(text: str) -> Callable[[Conversation, str], float]:
    return lambda conversation, candidate: 0.1 if candidate == text else 2.0


def test_the_flow_of_one_batch() -> None:
    engine = ScriptedEngine(rule(), nll=prefer("green"))
    traces = answer([ask(0), ask(1)], engine, Settings())
    # Both first-pass conversations of all questions in one call, then the second pass, then the scores.
    assert stages(engine) == [["macro", "macro", "response", "response"], ["micro", "micro"]]
    assert [len(requests) for requests in engine.scored] == [4]
    assert [(trace.key, trace.text, trace.selected, trace.decision) for trace in traces] == [
        ("q0", "green", "micro", Decision.NLL),
        ("q1", "green", "micro", Decision.NLL),
    ]


def test_the_conversations_are_the_papers() -> None:
    question = ask(system="Be polite.", max_new_tokens=7, stop=("\n",))
    engine = ScriptedEngine(rule())
    (trace,) = answer([question], engine, Settings())
    (image,) = question.images
    crop = Picture(image.pixels.crop((0, 0, 125, 100)))
    system = Message("system", ("Be polite.",))
    q1 = Message(
        "user",
        (image, "Please provide the bounding box coordinate of the region this question asks: Colour 0?"),
    )
    grounding_response = Message("assistant", (BOX,), text_ids(BOX))
    instruction = "Please combine the information from these two images and answer this question: "
    macro, grounding = engine.generated[0]
    (micro,) = engine.generated[1]
    assert macro.conversation == (system, Message("user", (image, "Colour 0? Be brief.")))
    assert grounding.conversation == (system, q1)
    assert micro.conversation == (
        system,
        q1,
        grounding_response,
        Message("user", (crop, f"{instruction}Colour 0? Be brief.")),
    )
    assert (macro.max_new_tokens, macro.stop) == (micro.max_new_tokens, micro.stop) == (7, ("\n",))
    assert (grounding.max_new_tokens, grounding.stop) == (64, ())
    for request, text in zip(engine.scored[0], ("blue", "green"), strict=True):
        prompt = f"{instruction}Colour 0? Answer the question using a single word or phrase"
        assert request.conversation == (system, q1, grounding_response, Message("user", (crop, prompt)))
        assert request.continuation == text_ids(text)
    assert trace.grounding is not None
    assert trace.grounding.crop == Crop(0, 0, 125, 100)
    assert trace.images[0].width == 200


def test_each_rule_decides_by_its_own_scores() -> None:
    # Own context prefers macro (0.1 < 0.3). In micro context macro's longer answer costs 0.5 per token, micro's 0.4;
    # with the 25 tokens of an unsure A1 (2.0 each) the longer answer has the lower mean.
    engine = ScriptedEngine(
        rule(macro=("purple and blue", 0.1), micro=("red", 0.3), grounding_response=(BOX, 2.0)),
        nll=lambda conversation, text: 0.5 if text == "purple and blue" else 0.4,
    )
    for selection, selected in (("own_context", "macro"), ("micro_context", "micro"), ("released", "macro")):
        (trace,) = answer([ask()], engine, Settings(selection=selection))
        assert trace.selected == selected
        assert trace.picks == {"own_context": "macro", "micro_context": "micro", "released": "macro"}


def test_candidates_that_agree_are_not_scored() -> None:
    engine = ScriptedEngine(rule(macro="Blue.", micro="blue"))
    (trace,) = answer([ask()], engine, Settings())
    assert engine.scored == []
    assert (trace.text, trace.decision) == ("Blue.", Decision.AGREEMENT)
    assert trace.picks == dict.fromkeys(("own_context", "micro_context", "released"), "macro")


def test_own_selection_scores_only_when_the_trace_is_to_have_all() -> None:
    engine = ScriptedEngine(rule())
    (trace,) = answer([ask()], engine, Settings(selection="own_context", score_all=False))
    assert engine.scored == []
    assert set(trace.picks) == {"own_context"}
    answer([ask()], engine, Settings(selection="own_context"))
    assert len(engine.scored) == 1


OPTIONS = {"kind": AnswerKind.OPTION, "options": ("red", "blue", "green")}


def test_two_valid_letters_are_compared_by_their_option_texts() -> None:
    engine = ScriptedEngine(rule(macro="A", micro="(c)"), nll=prefer("green"))
    (trace,) = answer([ask(**OPTIONS)], engine, Settings())
    assert [request.continuation for request in engine.scored[0]] == [text_ids("red"), text_ids("green")]
    assert (trace.text, trace.scores and trace.scores.scored) == ("(c)", "option_text")
    engine = ScriptedEngine(rule(macro="A", micro="(c)"), nll=prefer("A"))
    (trace,) = answer([ask(**OPTIONS)], engine, Settings(option_scoring="answer"))
    assert [request.continuation for request in engine.scored[0]] == [text_ids("A"), text_ids("(c)")]
    assert (trace.text, trace.scores and trace.scores.scored) == ("A", "answer")


@pytest.mark.parametrize(
    ("macro", "micro", "selected", "decision"),
    [
        ("Violet", "C", "micro", Decision.ONLY_VALID_OPTION),
        ("A", "D", "macro", Decision.ONLY_VALID_OPTION),
        ("Violet", "Pink", "macro", Decision.NO_VALID_OPTION),
        ("Violet", "Green.", "micro", Decision.ONLY_VALID_OPTION),
        ("C", "green", "macro", Decision.AGREEMENT),
    ],
)
def test_letter_rules_need_no_scores(macro: str, micro: str, selected: str, decision: Decision) -> None:
    engine = ScriptedEngine(rule(macro=macro, micro=micro))
    (trace,) = answer([ask(**OPTIONS)], engine, Settings())
    assert (trace.selected, trace.decision) == (selected, decision)
    assert engine.scored == []


def test_macro_strategy_asks_one_thing() -> None:
    engine = ScriptedEngine(rule())
    (trace,) = answer([ask()], engine, Settings(strategy="macro"))
    assert stages(engine) == [["macro"]]
    assert (trace.text, trace.decision, trace.fallback) == ("blue", Decision.ONLY_CANDIDATE, None)


def test_micro_strategy_asks_for_macro_only_where_there_is_no_usable_box() -> None:
    def answers(conversation: Conversation) -> str:
        if stage(conversation) == "response":
            return "nowhere" if "Colour 1" in prompt_of(conversation) else BOX
        return stage(conversation)

    engine = ScriptedEngine(answers)
    traces = answer([ask(0), ask(1), ask(2, images=())], engine, Settings(strategy="micro"))
    assert stages(engine) == [["response", "response"], ["micro"], ["macro", "macro"]]
    assert [(trace.text, trace.fallback) for trace in traces] == [
        ("micro", None),
        ("macro", "unparsable"),
        ("macro", "no_image"),
    ]
    assert engine.scored == []


def test_a_confident_macro_answer_skips_the_second_pass_only() -> None:
    def answers(conversation: Conversation) -> Answer:
        if stage(conversation) == "response":
            return BOX
        return stage(conversation), (0.2 if "Colour 0" in prompt_of(conversation) else 0.9)

    engine = ScriptedEngine(answers)
    traces = answer([ask(0), ask(1)], engine, Settings(adaptive_nll=0.7))
    assert stages(engine) == [["macro", "macro", "response", "response"], ["micro"]]
    assert [(trace.skipped_micro, trace.fallback) for trace in traces] == [(True, None), (False, None)]
    assert traces[0].selected == "macro"
    assert traces[0].grounding is not None


def test_only_a_micro_pass_that_could_run_counts_as_skipped() -> None:
    engine = ScriptedEngine(rule(macro=("blue", 0.1), grounding_response="nowhere"))
    (trace,) = answer([ask()], engine, Settings(adaptive_nll=0.7))
    assert (trace.skipped_micro, trace.fallback) == (False, "unparsable")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot tell.", "unparsable"),
        ("[0.5, 0.5, 0.1, 0.1]", "inverted"),
        ("[0.5, 0.5, 0.5, 0.5]", "degenerate"),
        ("[nan, 0.1, 0.2, 0.3]", "not_finite"),
        ("[10, 20, 300, 400]", "out_of_range"),
    ],
)
def test_without_a_usable_box_the_macro_answer_stands_and_says_so(text: str, reason: str) -> None:
    engine = ScriptedEngine(rule(grounding_response=text))
    (trace,) = answer([ask()], engine, Settings())
    assert (trace.text, trace.fallback, trace.micro, trace.error) == ("blue", reason, None, None)
    assert trace.grounding is not None
    assert (trace.grounding.response.text, trace.grounding.outcome) == (text, reason)
    assert stages(engine) == [["macro", "response"]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": ()}, "no_image"),
        ({"images": (picture(), picture("blue"))}, "several_images"),
        ({"images": (picture(),), "video": True}, "video"),
        ({"stem": " "}, "empty_stem"),
    ],
)
def test_what_cannot_be_grounded_is_answered_from_the_macro_pathway(changes: dict[str, object], reason: str) -> None:
    engine = ScriptedEngine(rule())
    (trace,) = answer([ask(**changes)], engine, Settings())
    assert stages(engine) == [["macro"]]
    assert (trace.text, trace.fallback) == ("blue", reason)


def test_an_image_of_one_pixel_falls_back() -> None:
    (trace,) = answer([ask(images=(picture(size=(1, 1)),))], ScriptedEngine(rule()), Settings())
    assert (trace.text, trace.fallback) == ("blue", "crop_too_small")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"prompt": " \n", "stem": ""}, "empty_question"),
        ({"failure": Failure("bad_image", "cut off")}, "bad_image"),
        ({"images": (), "video": True}, "video_without_frames"),
    ],
)
def test_what_cannot_be_asked_fails_alone(changes: dict[str, object], kind: str) -> None:
    engine = ScriptedEngine(rule())
    traces = answer([ask(0), ask(1, **changes), ask(2)], engine, Settings())
    assert [trace.error and trace.error.kind for trace in traces] == [None, kind, None]
    assert [trace.selected is not None for trace in traces] == [True, False, True]
    assert traces[1].text == ""
    assert stages(engine)[0] == ["macro", "macro", "response", "response"]


@pytest.mark.parametrize("failure", [OUT_OF_MEMORY, RuntimeError("a bug")])
@pytest.mark.parametrize(
    ("where", "fallback"), [("response", "grounding_failed"), ("micro", "micro_failed"), ("macro", None)]
)
def test_a_failure_of_the_engine_costs_one_question(
    where: str, fallback: str | None, failure: Failure | Exception
) -> None:
    def answers(conversation: Conversation) -> Answer:
        if stage(conversation) == where and "Colour 1" in prompt_of(conversation):
            return failure
        return BOX if stage(conversation) == "response" else stage(conversation)

    first, second, third = answer([ask(0), ask(1), ask(2)], ScriptedEngine(answers), Settings())
    assert {first.selected, third.selected} == {"micro"}
    reason = second.error if where == "macro" else second.cause
    assert reason is not None
    assert reason.kind == ("out_of_memory" if isinstance(failure, Failure) else "engine_error")
    assert (second.text, second.fallback) == ("" if where == "macro" else "macro", fallback)


def test_a_failure_of_the_macro_pathway_saves_the_second_pass() -> None:
    engine = ScriptedEngine(rule(macro=OUT_OF_MEMORY))
    answer([ask()], engine, Settings())
    assert stages(engine) == [["macro", "response"]]


@pytest.mark.parametrize("failure", [OUT_OF_MEMORY, RuntimeError("a bug")])
def test_a_failure_to_score_leaves_the_own_rule(failure: Failure | Exception) -> None:
    engine = ScriptedEngine(rule(macro=("blue", 0.9), micro=("green", 0.1)), nll=lambda conversation, text: failure)
    (trace,) = answer([ask()], engine, Settings(selection="micro_context"))
    assert (trace.text, trace.decision, trace.fallback) == ("blue", Decision.NO_SCORES, "scoring_failed")
    assert trace.cause is not None
    (trace,) = answer([ask()], engine, Settings(selection="own_context"))
    assert (trace.text, trace.decision, trace.fallback) == ("green", Decision.NLL, None)


def test_an_option_text_that_cannot_be_tokenised_costs_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine(rule(macro="A", micro="B"), nll=prefer("blue"))

    def continuation(conversation: Conversation, text: str) -> tuple[int, ...]:
        if text == "odd":
            raise ValueError("no such token")
        return text_ids(text)

    monkeypatch.setattr(engine, "continuation", continuation)
    odd, even = answer([ask(0, **OPTIONS | {"options": ("odd", "blue")}), ask(1, **OPTIONS)], engine, Settings())
    assert (odd.text, odd.fallback) == ("A", "scoring_failed")
    assert odd.cause == Failure("engine_error", "ValueError: no such token")
    assert (even.text, even.decision) == ("B", Decision.NLL)


def test_boxes_in_pixels_are_relative_to_what_the_processor_feeds() -> None:
    settings = Settings(box_convention="qwen2_5_vl", margin=0)
    grounding_response = '```json\n[{"bbox_2d": [28, 28, 84, 56]}]\n```'
    engine = ScriptedEngine(rule(grounding_response=grounding_response), size=(112, 56))
    (trace,) = answer([ask()], engine, settings)
    assert trace.grounding is not None
    # (0.25, 0.5, 0.75, 1.0) of 200x100: 100 px wide about (100, 75), cut to the image.
    assert trace.grounding.crop == Crop(50, 25, 150, 100)
    (trace,) = answer(
        [ask()], ScriptedEngine(rule(grounding_response=grounding_response), size=RuntimeError("no size")), settings
    )
    assert (trace.text, trace.fallback) == ("blue", "grounding_failed")


@pytest.mark.parametrize(
    ("frame", "crop"), [("image", Crop(80, 20, 120, 60)), ("padded_square", Crop(80, 10, 120, 50))]
)
def test_a_swapped_frame_gives_another_crop(frame: str, crop: Crop) -> None:
    """200x100 padded to 200x200: 50 px above the image."""
    settings = Settings(box_frame=frame, margin=0)
    (trace,) = answer([ask()], ScriptedEngine(rule(grounding_response="[0.40, 0.30, 0.60, 0.50]")), settings)
    assert trace.grounding is not None
    assert trace.grounding.crop == crop


def test_a_shift_moves_the_region_but_not_a1() -> None:
    settings = Settings(margin=0)
    question = ask(images=(picture(size=(400, 400)),))
    (still,) = answer([question], ScriptedEngine(rule(grounding_response="[0.40, 0.40, 0.60, 0.60]")), settings)
    engine = ScriptedEngine(rule(grounding_response="[0.40, 0.40, 0.60, 0.60]"))
    (moved,) = answer([question], engine, replace(settings, grounding="shifted", jitter=25))
    assert still.grounding is not None
    assert moved.grounding is not None
    assert moved.grounding.response == still.grounding.response
    assert still.grounding.crop == Crop(160, 160, 240, 240)
    assert moved.grounding.crop is not None
    assert abs(moved.grounding.crop.left - 160) == abs(moved.grounding.crop.top - 160) == 25


def test_equal_requests_are_sent_once() -> None:
    engine = ScriptedEngine(rule())
    traces = answer([ask(0), ask(0), ask(0)], engine, Settings())
    assert stages(engine) == [["macro", "response"], ["micro"]]
    assert [trace.text for trace in traces] == ["green"] * 3


def test_cost_is_in_the_first_trace_of_a_batch_only() -> None:
    engine = ScriptedEngine(rule())
    costs = [trace.cost for batch in ([ask(0), ask(1)], [ask(2)]) for trace in answer(batch, engine, Settings())]
    assert [cost and cost.questions for cost in costs] == [2, None, 1]
    assert sum(cost.decode_steps for cost in costs if cost) == engine.counters.decode_steps > 0


def test_nothing_to_answer() -> None:
    engine = ScriptedEngine(rule())
    assert answer([], engine, Settings()) == []
    assert engine.generated == engine.scored == []


def test_a_rerun_computes_only_what_is_missing_and_may_use_another_rule(tmp_path: Path) -> None:
    engine = ScriptedEngine(rule(macro=("blue", 0.9), micro=("green", 0.1)), nll=prefer("blue"))
    questions = [ask(number) for number in range(4)]
    with TraceStore(tmp_path, "key") as store:
        answer(questions[:2], engine, Settings(), store=store)
    undisturbed = answer(questions, engine, Settings(selection="own_context"), settings_key="key")
    engine.generated.clear()
    with TraceStore(tmp_path, "key") as store:
        resumed = answer(questions, engine, Settings(selection="own_context"), store=store)
        assert store.reused == 2
    assert [len(requests) for requests in engine.generated] == [4, 2]
    assert [replace(trace, cost=None) for trace in resumed] == [replace(trace, cost=None) for trace in undisturbed]
    assert [trace.text for trace in resumed] == ["green"] * 4


words = st.one_of(st.text(max_size=8), st.sampled_from(["yes", "A", BOX, "[0.1, 0.1, 0.9, 0.9]", "[1, 2, 3, 4]", ""]))
outcomes = st.one_of(words, st.tuples(words, st.floats(0, 9)), st.just(OUT_OF_MEMORY), st.just(ValueError("bug")))


@given(
    macro=outcomes,
    micro=outcomes,
    grounding_response=outcomes,
    nll=st.one_of(st.floats(0, 9), st.just(float("nan")), st.just(OUT_OF_MEMORY), st.just(ValueError("bug"))),
    question=st.builds(
        ask,
        kind=st.sampled_from(AnswerKind),
        prompt=st.text(max_size=5),
        stem=st.text(max_size=5),
        options=st.sampled_from([(), ("x", "y")]),
        images=st.lists(st.sampled_from([picture(), picture(size=(1, 1)), picture(size=(3, 900))]), max_size=2).map(
            tuple
        ),
        video=st.booleans(),
    ),
    settings=st.builds(
        Settings,
        strategy=st.sampled_from(["dualfocus", "macro", "micro"]),
        selection=st.sampled_from(["own_context", "micro_context", "released"]),
        score_all=st.booleans(),
        adaptive_nll=st.none() | st.floats(0, 2),
        box_frame=st.sampled_from(["image", "padded_square"]),
        crop=st.sampled_from(["full", "released"]),
        grounding=st.sampled_from(["text_box", "center", "whole"]),
    ),
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_happens_every_question_has_an_answer_or_a_named_error(
    macro: Answer, micro: Answer, grounding_response: Answer, nll: object, question: Question, settings: Settings
) -> None:
    sure = ask(9)

    def answers(conversation: Conversation) -> Answer:
        own = {"macro": macro, "micro": micro, "response": grounding_response}
        return BOX if "Colour 9" in prompt_of(conversation) else own[stage(conversation)]

    traces = answer([question, sure], ScriptedEngine(answers, nll=lambda conversation, text: nll), settings)
    assert [trace.key for trace in traces] == [question.key, sure.key]
    for trace in traces:
        assert (trace.selected is None) == (trace.error is not None)
        assert trace.error or trace.answer is not None
        assert trace.from_json(trace.to_json()).to_json() == trace.to_json()
        if settings.strategy == "dualfocus" and not trace.error:
            assert trace.micro or trace.fallback or trace.skipped_micro
    assert traces[1].error is None


def test_loglikelihood_in_the_macro_pathway() -> None:
    engine = ScriptedEngine(rule(), nll=prefer("red"))
    question = ask()
    results = loglikelihood([(question, "red"), (question, "blue")], engine, Settings(strategy="macro"))
    assert results == [Likelihood(pytest.approx(0.1), True), Likelihood(pytest.approx(2.0), False)]
    assert engine.generated == []
    assert [request.continuation for request in engine.scored[0]] == [text_ids("red"), text_ids("blue")]
    assert {stage(request.conversation) for request in engine.scored[0]} == {"macro"}


def test_loglikelihood_in_the_micro_pathway_grounds_a_question_once() -> None:
    engine = ScriptedEngine(rule(), nll=prefer("red"))
    question, blind = ask(0), ask(1, images=())
    targets = [(question, "red"), (question, "blue"), (blind, "red")]
    results = loglikelihood(targets, engine, Settings(strategy="micro"))
    assert stages(engine) == [["response"]]
    assert [stage(request.conversation) for request in engine.scored[0]] == ["micro", "micro", "macro"]
    assert [result.fallback for result in results if isinstance(result, Likelihood)] == [None, None, "no_image"]


def test_loglikelihood_refuses_dualfocus_and_names_failures() -> None:
    engine = ScriptedEngine(rule(), nll=lambda conversation, text: OUT_OF_MEMORY if text == "red" else 1.0)
    with pytest.raises(ValueError, match="strategy=macro or strategy=micro"):
        loglikelihood([(ask(), "red")], engine, Settings())
    targets = [(ask(0), "red"), (ask(1), "blue"), (ask(2, failure=Failure("bad_image", "")), "blue")]
    results = loglikelihood(targets, engine, Settings(strategy="macro"))
    assert results == [OUT_OF_MEMORY, Likelihood(1.0, False), Failure("bad_image", "")]


def test_the_scripted_engine_cuts_at_the_length() -> None:
    assert completion("red", max_new_tokens=2).finish == "length"
    assert completion("red").finish == "eos"


def test_answers_are_asked_for_without_marks_and_boxes_with_them() -> None:
    engine = ScriptedEngine(rule())
    answer([ask()], engine, Settings())
    asked = [request for requests in engine.generated for request in requests]
    assert {stage(request.conversation): request.unmarked for request in asked} == {
        "macro": True,
        "response": False,
        "micro": True,
    }
