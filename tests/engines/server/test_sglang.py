"""SGLang's client path, against the documented formats: the same answers and scores as the in-process engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Message, Score, ScoreRequest
from dualfocus_eval.engines.local import LocalEngine
from dualfocus_eval.engines.server.replies import read_reply
from dualfocus_eval.engines.server.sglang import FROM_POSITION, read_native_reply
from tests.engines.asking import ask, picture
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.server_double import serving
from tests.sglang_double import SGLangDouble

RECORDED = Path(__file__).parent / "sglang"


@pytest.fixture
def double() -> SGLangDouble:
    return SGLangDouble(Path(EMBEDDED))


@pytest.fixture
def address(double: SGLangDouble) -> Iterator[str]:
    with serving(double.app) as found:
        yield found


def two_turns() -> GenerateRequest:
    first = ask(picture(1, (80, 60)), "Where is the label?")
    return GenerateRequest(
        (*first.conversation, Message("assistant", ("the red label",)), Message("user", (picture(3), "And here?"))), 8
    )


def test_answers_and_scores(double: SGLangDouble, address: str, connected: Connect, in_process: LocalEngine) -> None:
    engine = connected(address)
    assert engine.info.engine == "server (sglang 0.5.23)"
    assert (engine.can_score, engine.has_logprobs, engine.warnings) == (True, True, ())
    requests = [
        ask(picture(1, (80, 60)), "What color is the box?"),
        ask("Where is the label?", most=3),
        ask(picture(2, (60, 80)), "Where is the label?", most=20, stop=("1", "lab")),
        two_turns(),
    ]
    for found, expected in zip(engine.generate(requests), in_process.generate(requests), strict=True):
        assert isinstance(found, Completion)
        assert isinstance(expected, Completion)
        assert (found.text, found.token_ids, found.finish) == (expected.text, expected.token_ids, expected.finish)
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    scored = [
        ScoreRequest(request.conversation, engine.continuation(request.conversation, text))
        for request in requests
        for text in ("the red label", "no")
    ]
    for score, wanted in zip(engine.score(scored), in_process.score(scored), strict=True):
        assert isinstance(score, Score)
        assert isinstance(wanted, Score)
        assert score.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
        assert (score.greedy, score.method) == (wanted.greedy, FROM_POSITION)
    # The length of each prompt is asked for once; what lies before the text is left to the prefix cache.
    asked = [body.get("logprob_start_len") for body in double.generated]
    assert asked.count(None) == len(requests)
    assert len(asked) == len(requests) + len(scored)
    assert engine.counters.tokens_prefilled > 0


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ({"input_token_logprobs": None}, "bad_reply"),
        ({"input_token_logprobs": [[None, 1, None]]}, "bad_reply"),
        ({"input_token_logprobs": [[-1.0, 5, None]] * 40}, "retokenised"),
        ({"prompt_tokens": 1}, "retokenised"),
    ],
)
def test_less_than_was_asked_for_is_a_failure(
    damage: dict[str, Any], kind: str, double: SGLangDouble, address: str, connected: Connect
) -> None:
    engine = connected(address, retries=0)
    double.damage = damage
    conversation = two_turns().conversation
    (found,) = engine.score([ScoreRequest(conversation, engine.continuation(conversation, "the red label"))])
    assert isinstance(found, Failure)
    assert found.kind == kind


def test_a_number_that_is_none(double: SGLangDouble, address: str, connected: Connect) -> None:
    engine = connected(address)
    conversation = two_turns().conversation
    request = ScoreRequest(conversation, engine.continuation(conversation, "no"))
    double.damage = {
        "input_token_logprobs": [[None, 0, None], *([None, token, None] for token in request.continuation)]
    }
    (found,) = engine.score([request])
    assert isinstance(found, Failure)
    assert found.kind == "not_finite"


def test_an_adapter_is_refused(connected: Connect) -> None:
    with (
        serving(SGLangDouble(Path(EMBEDDED), parent="base").app) as address,
        pytest.raises(UserError, match="is an adapter, which this client cannot ask SGLang for"),
    ):
        connected(address)


def test_replies_as_they_are_documented() -> None:
    chat = read_reply((RECORDED / "chat_completion.json").read_bytes(), logprobs=True, token_ids=True)
    assert chat.prompt_token_ids == [100, 101, 102]
    assert (chat.choice.token_ids, chat.choice.stop_reason) == ([40, 2], 2)
    assert chat.choice.values == (-0.25, -0.001)
    assert (chat.usage.prompt_tokens, chat.usage.cached) == (3, 2) if chat.usage else False
    native = read_native_reply((RECORDED / "generate.json").read_bytes())
    assert native.meta_info.input_token_logprobs == [(None, 7, None), (-0.5, 40, None), (-0.125, 2, None)]
    assert native.meta_info.input_top_logprobs == [None, [(-0.5, 40, None)], [(-0.0625, 9, None)]]
    assert (native.usage.prompt_tokens, native.usage.cached) == (582, 579)
