"""Checkpoints that think, behind a server: the answers of the engine in process, and prompts without thinking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Message, Score, ScoreRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import engine_of
from dualfocus_eval.engines.server import connecting
from dualfocus_eval.engines.server.answers import answer_of
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.connecting import connect
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.replies import Choice, Reply, ReplyMessage, Usage
from dualfocus_eval.engines.server.running import ServerEngine
from dualfocus_eval.engines.template import ChatTemplate
from tests.engines.asking import ask, picture
from tests.engines.thinking_models import TEMPLATES, thinking_checkpoint
from tests.server_double import ABILITIES, ServerDouble, serving


class Thinker(ServerDouble):
    """Serves a loaded checkpoint, and renders prompts as transformers does, as vLLM has it do."""

    def __init__(self, checkpoint: Checkpoint, abilities: frozenset[str] = ABILITIES) -> None:
        super().__init__(checkpoint=None, abilities=abilities)  # type: ignore[arg-type]
        self.__dict__ |= {"_model": checkpoint.model, "_processor": checkpoint.processor}
        self._settings = checkpoint.generation_config
        self._end_ids = checkpoint.end_ids
        self._plain_roles = ChatTemplate.of(checkpoint)._plain_roles

    def _inputs(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        images: list[Any] = []
        text = self._processor.apply_chat_template(
            [self._message(message, images) for message in body["messages"]],
            tokenize=False,
            add_generation_prompt=body.get("add_generation_prompt", True),
            continue_final_message=body.get("continue_final_message", False),
            **body.get("chat_template_kwargs", {}),
        )
        inputs = self._processor(text=[text], images=images or None, return_tensors="pt")
        return dict(inputs), inputs["input_ids"][0].tolist()

    def _message(self, message: dict[str, Any], images: list[Any]) -> dict[str, Any]:
        """With texts as the template takes them, which vLLM finds out as well."""
        found = super()._message(message, images)
        if isinstance(found["content"], list) or found["role"] in self._plain_roles:
            return found
        return {**found, "content": [{"type": "text", "text": found["content"]}]}

    def _choice(self, body: dict[str, Any], ids: list[int], logprobs: list[torch.Tensor]) -> dict[str, Any]:
        """Ended by any of the checkpoint's end tokens."""
        ended = {"finish_reason": "stop", "stop_reason": None} if ids[-1] in self._end_ids else {}
        return super()._choice(body, ids, logprobs) | ended

    def _generate(self, *arguments: Any) -> tuple[list[int], list[torch.Tensor]]:
        self._model.generation_config, kept = self._settings, self._model.generation_config
        try:
            return super()._generate(*arguments)
        finally:
            self._model.generation_config = kept


def engine_in_front_of(double: Thinker, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, address: str) -> Any:
    tokens = PromptTokens(ChatTemplate.of(checkpoint), checkpoint.generation_config.repetition_penalty or 1.0)
    monkeypatch.setattr(connecting, "at_hand", lambda config: (checkpoint.family, tokens))
    return connect(ServerConfig(base_url=address, model=double.name, timeout=20.0, retries=0))


@pytest.fixture(params=TEMPLATES)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return thinking_checkpoint(request.param, opens=request.param == "leaves it to the model")


@pytest.fixture
def engine(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerEngine]:
    double = Thinker(checkpoint)
    with serving(double.app) as address:
        engine = engine_in_front_of(double, checkpoint, monkeypatch, address)
        yield engine
        engine.close()


def test_answers_and_scores_are_those_of_the_engine_in_process(engine: ServerEngine, checkpoint: Checkpoint) -> None:
    local = engine_of(checkpoint, 4, 1 << 26)
    first = ask(picture(1, (56, 56)), "What color is the box?", most=6)
    told = (*first.conversation, Message("assistant", ("red",)), Message("user", ("And here?",)))
    requests = [GenerateRequest(told, 6, max_thinking_tokens=budget) for budget in (0, 60)] + [
        GenerateRequest(first.conversation, 6, max_thinking_tokens=budget) for budget in (0, 3, 60)
    ]
    for found, expected in zip(engine.generate(requests), local.generate(requests), strict=True):
        if isinstance(expected, Failure):
            assert isinstance(found, Failure)
            assert found.kind == expected.kind
            continue
        assert isinstance(found, Completion)
        assert (found.text, found.token_ids, found.finish) == (expected.text, expected.token_ids, expected.finish)
        assert found.thinking == expected.thinking
        assert len(found.logprobs) == len(found.token_ids)  # vLLM's are those before the checkpoint's penalties
    assert engine.can_score
    scored = [ScoreRequest(first.conversation, engine.continuation(first.conversation, "the red label"))]
    (score,), (wanted,) = engine.score(scored), local.score(scored)
    assert isinstance(score, Score)
    assert isinstance(wanted, Score)
    assert score.logprobs == pytest.approx(wanted.logprobs, abs=1e-3)


@pytest.mark.parametrize(
    ("template", "content", "finish", "expected"),
    [
        ("opens", "Let me see", "length", "thinking_budget"),
        ("opens", "Let me see", "stop", "thinking_unfinished"),
        ("opens", "Let me see</think>\n\nred", "stop", "red"),
        ("closes by default", "red", "stop", "red"),
        ("closes by default", "<think>Let me see", "length", "thinking_budget"),
    ],
)
def test_a_thought_that_does_not_end_is_no_answer_without_token_ids_either(
    template: str, content: str, finish: str, expected: str
) -> None:
    tokens = PromptTokens(ChatTemplate.of(thinking_checkpoint(template)))
    request = ask("What color is the box?")
    usage = Usage(prompt_tokens=9, completion_tokens=4)
    reply = Reply(choices=[Choice(message=ReplyMessage(content=content), finish_reason=finish)], usage=usage)
    assert tokens.template.thinking is not None
    found = answer_of(reply, request, tokens.template.thinking, tokens.segments(request.conversation)[-1])
    assert (found.kind if isinstance(found, Failure) else found.text) == expected
