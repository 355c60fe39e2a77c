"""The model behind a server double, asked from Python and by a command: as in process, or its limits are named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import dualfocus_eval as df
from dualfocus_eval.api.model import Model
from dualfocus_eval.cli import ask
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.engines.base import Failure, GenerateRequest
from dualfocus_eval.engines.server.engine import ServerCalls
from tests.api.conftest import example, model, photo, scenes
from tests.server_double import ABILITIES, ServerDouble, serving

__all__ = ["example", "model", "photo", "scenes"]

Scenes = list[dict[str, Any]]
EMBEDDED = resource_folder("models") / EMBEDDED_CHECKPOINT


FULL = ServerDouble(EMBEDDED)


class Plain(ServerDouble):
    """A server of which nobody knows where its model comes from."""

    _model = property(lambda self: FULL._model)
    _processor = property(lambda self: FULL._processor)
    _worker = property(lambda self: FULL._worker)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": self.name}]})


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(FULL.app) as address:
        yield address


@pytest.fixture
def with_logprobs() -> Iterator[str]:
    with serving(Plain(EMBEDDED, abilities=frozenset({"logprobs"})).app) as address:
        yield address


@pytest.fixture
def bare() -> Iterator[str]:
    with serving(Plain(EMBEDDED, abilities=frozenset()).app) as address:
        yield address


def load(address: str, **arguments: Any) -> Model:
    return df.load(engine="server", base_url=address, **arguments)


def asked(model: Model, scenes: Scenes, count: int = 2) -> list[df.Answer]:
    return model.ask_batch([(row["image"]["bytes"], row["question"]) for row in scenes[:count]])


def test_a_server_answers_as_the_engine_in_process(served: str, model: df.Model, scenes: Scenes) -> None:
    with load(served) as remote:
        found = asked(remote, scenes, 3)
        assert "dualfocus-tiny at http" in repr(remote)
        assert remote.counters.requests >= 9
    for one, other in zip(found, asked(model, scenes, 3), strict=True):
        assert (one.text, one.selected, one.box, one.why) == (other.text, other.selected, other.box, other.why)
        assert one.trace.scores is None or set(one.trace.scores.methods or ()) <= {"by_token", "prompt"}
        assert one.compared == (other.compared and pytest.approx(other.compared, rel=1e-4))
    assert any(one.trace.scores for one in found)


def test_the_command_asks_a_server(served: str, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--question", "What is written on the box?", "--model_args", f"engine=server,base_url={served}"]
    assert main(["ask", str(photo), *arguments]) == 0
    assert "selected: " in (printed := capsys.readouterr().out)
    assert "the embedded checkpoint" not in printed
    assert main(["ask", str(photo), "missing.png", *arguments, "--json"]) == 1
    said = capsys.readouterr()
    assert [json.loads(line)["failure"] is None for line in said.out.splitlines()] == [True, False]
    assert said.err.startswith("dualfocus ask: ")


def test_what_a_server_fails_on_is_named(
    served: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(calls: ServerCalls, requests: list[GenerateRequest]) -> list[Failure]:
        return [Failure("too_long", "the prompt is too long") for _ in requests]

    monkeypatch.setattr(ServerCalls, "generate", fail)
    given = [str(photo), "--question", "What?", "--model_args", f"engine=server,base_url={served}"]
    assert ask.main(given) == 1
    assert capsys.readouterr().err == "dualfocus ask: the prompt is too long\n"


@pytest.mark.filterwarnings("ignore:unknown may not be trained")
@pytest.mark.parametrize("strategy", ["macro", "micro"])
def test_without_log_probabilities_one_pathway_answers(
    bare: str, model: df.Model, scenes: Scenes, strategy: str
) -> None:
    with pytest.warns(UserWarning, match="the server returns no log-probabilities"):
        remote = load(bare, strategy=strategy, box_convention="unit")
    with remote:
        found = asked(remote, scenes)
    for one, other in zip(found, asked(model, scenes), strict=True):
        known = getattr(other, strategy)
        assert one.selected == strategy
        assert (one.text, known and one.text) == (known.text, known.text)
        assert not one.trace.answer.logprobs
        assert json.loads(one.trace.to_json())


@pytest.mark.filterwarnings("ignore:unknown may not be trained")
@pytest.mark.parametrize(
    ("abilities", "arguments", "message"),
    [
        (frozenset(), {}, "nothing can choose between two answers: pass strategy=macro or strategy=micro"),
        (
            frozenset({"logprobs"}),
            {"selection": "micro_context"},
            r"selection=micro_context scores given texts, which this server cannot do: choose another rule \(own_conte",
        ),
        (
            ABILITIES,
            {"strategy": "micro", "box_convention": "qwen2_5_vl"},
            "box_convention=qwen2_5_vl is in pixels of the resized image, whose size is not known",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_at_the_start(
    abilities: frozenset[str], arguments: dict[str, str], message: str
) -> None:
    with serving(Plain(EMBEDDED, abilities=abilities).app) as address, pytest.raises(UserError, match=message):
        load(address, **arguments)


def test_log_probabilities_are_enough_for_own_context(with_logprobs: str, model: df.Model, scenes: Scenes) -> None:
    with pytest.warns(UserWarning, match="the server") as told:
        remote = load(with_logprobs, selection="own_context", box_convention="unit")
    said = " ".join(str(warning.message) for warning in told)
    assert "may not return the log-probability of the token that ends an answer" in said
    assert "cannot score given texts" in said
    with remote:
        found = asked(remote, scenes)
    for one, other in zip(found, asked(model, scenes), strict=True):
        assert one.macro
        assert one.micro
        assert other.macro
        assert (one.macro.text, one.box) == (other.macro.text, other.box)
        assert one.trace.picks["own_context"] == other.trace.picks["own_context"]
        assert "micro_context" not in one.trace.picks or one.trace.decision == "agreement"
