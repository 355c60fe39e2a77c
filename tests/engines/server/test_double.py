"""The server double answers as the in-process engine does, so that what fails behind it is the client's fault."""

from __future__ import annotations

import pytest

from dualfocus_eval.engines.base import Completion, GenerateRequest, Message, Score, ScoreRequest
from dualfocus_eval.engines.local import LocalEngine
from tests.engines.asking import ask, picture
from tests.engines.server.conftest import Connect


def test_it_answers_as_the_in_process_engine(served: str, connected: Connect, in_process: LocalEngine) -> None:
    engine = connected(served)
    first = [
        ask(picture(1, (80, 60)), "What color is the box?"),
        ask("Where is the label?", most=3),
        ask(picture(2, (60, 80)), "Where is the label?", most=20, stop=("1", "lab")),
    ]
    told = (
        *first[1].conversation,
        Message("assistant", ("the red label",)),
        Message("user", (picture(3), "And here?")),
    )
    requests = [*first, GenerateRequest(told, 8)]
    for found, expected in zip(engine.generate(requests), in_process.generate(requests), strict=True):
        assert isinstance(found, Completion)
        assert isinstance(expected, Completion)
        assert (found.text, found.token_ids, found.finish) == (expected.text, expected.token_ids, expected.finish)
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert found.gap == pytest.approx(expected.gap, abs=1e-4)

    scored = [
        ScoreRequest(request.conversation, engine.continuation(request.conversation, "the red label"))
        for request in requests
    ]
    for score, wanted in zip(engine.score(scored), in_process.score(scored), strict=True):
        assert isinstance(score, Score)
        assert isinstance(wanted, Score)
        assert score.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
    assert engine.warnings == ()
