"""The model behind a server double, asked from Python and by a command: as in process, or its limits are named."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from datasets import Dataset
from lmms_eval.api.instance import Instance, unwrap_generation_output
from PIL import Image

import dualfocus_eval as df
from dualfocus_eval.api.model import Model
from dualfocus_eval.cli import ask
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from dualfocus_eval.engines.base import Failure, GenerateRequest
from dualfocus_eval.engines.server.engine import ServerCalls
from dualfocus_eval.engines.server.running import ServerEngine
from dualfocus_eval.harness.model import DualFocusSimple
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


@pytest.mark.filterwarnings("ignore:the server's model, whose checkpoint")
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


@pytest.mark.filterwarnings("ignore:the server's model, whose checkpoint")
@pytest.mark.parametrize(
    ("abilities", "arguments", "message"),
    [
        (frozenset(), {}, "nothing can choose between two answers: pass strategy=macro or strategy=micro"),
        (
            frozenset({"logprobs"}),
            {"selection": "micro_context"},
            "selection=micro_context cannot be used: this server cannot score given texts; rules that need no scores",
        ),
        (
            ABILITIES,
            {"selection": "micro_context"},
            "given texts are scored with the model's tokenizer, which is not known here: name the checkpoint, a folder",
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


def test_a_server_is_checked(served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "check.json"
    arguments = ["--model_args", f"engine=server,base_url={served}", "--limit", "2", "--json", str(out)]
    assert main(["check", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "engine server (vllm 0.32.0) servers http://127.0.0.1",
        "abilities logprobs, token_ids, forced_tokens",
        "image 2 64 64 64 112 x 112",
        "again, 64 at a time 6 0 0.0",
        "again, one at a time 6 0 0.0",
        "The server does not say how many tokens it reuses",
        "| USER: <image: 64 tokens>",
        "Nothing is off.",
    ):
        assert words in printed
    assert "device" not in printed
    found = json.loads(out.read_text())
    assert (found["engine"]["dtype"], found["prompts"]["images"]["others"]) == (None, [])


def test_a_server_that_resizes_images_otherwise_is_off(
    served: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ServerEngine, "expected_image_tokens", lambda engine, picture: 80)
    monkeypatch.setattr(ServerEngine, "other_ways", lambda engine: {})
    assert main(["check", "--limit", "1", "--model_args", f"engine=server,base_url={served}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dualfocus check: off: the server shows 2 images and crops in another number of tokens")
    assert "in 64, not 80" in line


def test_likelihoods_of_texts_are_those_of_the_engine_in_process(
    served: str, with_logprobs: str, scenes: Scenes, tmp_path: Path
) -> None:
    documents = Dataset.from_list([{"image": Image.open(io.BytesIO(scenes[0]["image"]["bytes"]))}])

    def likelihood(text: str) -> Instance:
        task = SimpleNamespace(doc_to_visual=lambda doc: [doc["image"].convert("RGB")])
        arguments = (scenes[0]["question"], text, task.doc_to_visual, 0, "t", "test")
        return Instance("loglikelihood", arguments, 0, {"task": "t", "doc_id": 0, "repeats": 1})

    def scored(**arguments: Any) -> list[tuple[float, bool]]:
        made = DualFocusSimple(strategy="macro", trace_dir=str(tmp_path / str(len(arguments))), **arguments)
        made.task_dict = {"t": {"test": documents}}
        try:
            return [unwrap_generation_output(one)[0] for one in made.loglikelihood([likelihood("K"), likelihood("X")])]
        finally:
            made.clean()

    found, expected = scored(engine="server", base_url=served), scored()
    assert [nll for nll, _ in found] == pytest.approx([nll for nll, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    with pytest.raises(UserError, match="compares likelihoods, which cannot be computed: this server cannot score"):
        scored(engine="server", base_url=with_logprobs, model="dualfocus-tiny")


def test_each_of_several_processes_is_a_client(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them has a device of its own to name."""
    second = SimpleNamespace(num_processes=2, process_index=1, device="cuda:1", is_main_process=False)
    monkeypatch.setattr("dualfocus_eval.harness.model.Accelerator", lambda: second)
    model = DualFocusSimple(engine="server", base_url=served)
    assert model.session.engine.has_logprobs
    model.session.engine.close()
