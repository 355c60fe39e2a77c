"""What is found out about servers before a run: what they can do, and whether they can be asked in two passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.connecting import connect
from dualfocus_eval.engines.server.probing import served_model
from dualfocus_eval.engines.server.running import ServerEngine
from dualfocus_eval.harness.fitting import fitting_settings
from dualfocus_eval.method.settings import Settings
from tests.engines.asking import ask, completed, picture
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.server_double import ABILITIES, NAME, Refusal, ServerDouble, serving

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function from the properties of a `ServerDouble` to the address at which it is served."""
    with ExitStack() as stack:
        yield lambda checkpoint=Path(EMBEDDED), **more: stack.enter_context(
            serving(ServerDouble(checkpoint, **more).app)
        )


@pytest.fixture(scope="module")
def other_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A function that copies the embedded checkpoint with a replacement in its chat template."""

    def write(before: str, after: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        for file in Path(EMBEDDED).iterdir():
            (folder / file.name).symlink_to(file)
        template = folder / "chat_template.jinja"
        text = template.read_text()
        assert before in text
        template.unlink()
        template.write_text(text.replace(before, after))
        return folder

    return write


def refused(engine: ServerEngine, **settings: Any) -> str:
    """What `fitting_settings` says of the engine in one line; it never refuses the macro pathway."""
    assert fitting_settings(Settings(strategy="macro"), engine)[0] == Settings(strategy="macro")
    assert engine.two_pass_problem in engine.warnings
    with pytest.raises(UserError, match="strategy=macro") as error:
        fitting_settings(Settings(**settings), engine)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_server_as_it_should_be(served: str, connected: Connect) -> None:
    engine = connected(served)
    assert (engine.two_pass_problem, engine.warnings) == (None, ())
    assert fitting_settings(Settings(), engine) == (Settings(), ())
    with pytest.raises(UserError, match="grounding=attention: a model's attention can be read with engine=in_process"):
        fitting_settings(Settings(grounding="attention"), engine)


@pytest.mark.parametrize(
    ("before", "after", "turn"),
    [("USER: ", "Human: ", "first turn"), ("</s>{% endgeneration", "{% endgeneration", "second turn")],
)
def test_another_template(
    before: str,
    after: str,
    turn: str,
    other_template: Callable[[str, str], Path],
    serve: Serve,
    connected: Connect,
) -> None:
    engine = connected(serve(other_template(before, after)))
    told = refused(engine)
    assert f"from the {turn} on" in told
    assert "--chat-template" in told


def test_one_image_per_prompt(serve: Serve, connected: Connect) -> None:
    told = refused(connected(serve(most_images=1)), strategy="micro")
    assert "it cannot answer about two images: " in told
    assert "--limit-mm-per-prompt '{\"image\":2}'" in told


def test_a_context_of_one_image(serve: Serve, connected: Connect) -> None:
    told = refused(connected(serve(longest=100)))
    assert "it cannot answer about two images: " in told
    assert "--max-model-len" in told


def test_a_context_of_no_image(serve: Serve, connected: Connect) -> None:
    with pytest.raises(UserError, match=r"it cannot answer about an image: .* start it with a longer --max-model-len"):
        connected(serve(longest=60))


def test_a_context_that_is_too_short_for_large_images(serve: Serve, connected: Connect) -> None:
    engine = connected(serve(longest=300))
    assert engine.two_pass_problem is None
    (warning,) = engine.warnings
    assert warning.startswith("two large images take 128 tokens and the server's context is 300")


def test_no_images_at_all(serve: Serve, connected: Connect) -> None:
    with pytest.raises(UserError, match=r"it cannot answer about an image: .* serve a vision-language model"):
        connected(serve(most_images=0))


def test_only_the_second_differs(served: str, serve: Serve, connected: Connect) -> None:
    second = serve(most_images=1)
    told = refused(connected(f"{served},{second}"))
    assert told.startswith(second)
    second = serve(abilities=ABILITIES - {"prompt_logprobs"})
    with pytest.raises(UserError, match=f"{served}/v1 offers prompt_logprobs and {second}/v1 does not"):
        connected(f"{served},{second}")


def test_without_the_processor_no_template_is_compared(
    serve: Serve, connected: Connect, other_template: Callable[[str, str], Path]
) -> None:
    engine = connected(serve(other_template("USER: ", "Human: ")), pretrained=None)
    assert engine.two_pass_problem is None


def test_where_the_processor_is_found(served: str) -> None:
    found = served_model(ServerConfig(base_url=served))  # type: ignore[arg-type]
    assert (found.model, found.root, found.software) == (NAME, EMBEDDED, "vllm 0.32.0")
    with pytest.raises(UserError, match=f"it does not serve 'other' but {NAME}; set model="):
        connect(ServerConfig(base_url=served, model="other", pretrained=EMBEDDED))  # type: ignore[arg-type]


def test_a_notebook_s_event_loop_is_not_in_the_way(served: str) -> None:
    async def cell() -> str:
        return served_model(ServerConfig(base_url=served)).model  # type: ignore[arg-type]

    assert asyncio.run(cell()) == NAME


class Forgetful(ServerDouble):
    """vLLM with ``--mm-processor-cache-gb 0``."""

    def _image(self, part: dict[str, Any], index: int) -> Image.Image:
        if part["image_url"] is None:
            raise Refusal(400, "Failed to apply LlavaProcessor")
        return super()._image(part, index)


def test_a_server_that_does_not_know_images_again_gets_them_every_time(connected: Connect) -> None:
    with serving(Forgetful(Path(EMBEDDED)).app) as address:
        engine = connected(address)
        for _ in range(2):
            completed(engine.generate([ask(picture(1, (80, 60)), "What color is the box?")])[0])
        assert not engine._shared.abilities.image_uuids


class Processed(ServerDouble):
    """vLLM with ``--logprobs-mode processed_logprobs``, or with ``raw_logits``."""

    logits: bool = False

    def _step(self, token: int, values: torch.Tensor, *more: Any) -> dict[str, Any]:
        return super()._step(token, values + 50 if self.logits else values, *more)

    def _generate(self, inputs: dict[str, Any], length: int, most: int, body: dict[str, Any]) -> Any:
        ids, logprobs = super()._generate(inputs, length, most, body)
        allowed = body.get("allowed_token_ids")
        if allowed and not self.logits:
            floor = torch.full_like(logprobs[0], -9999.0)
            logprobs = [floor.index_fill(0, torch.tensor(allowed), 0.0) for _ in logprobs]
        return ids, logprobs


@pytest.mark.parametrize(
    ("logits", "told"), [(True, "logits"), (False, "log-probabilities of the allowed tokens only")]
)
def test_what_are_no_log_probabilities_of_the_model_is_refused(connected: Connect, logits: bool, told: str) -> None:
    double = Processed(Path(EMBEDDED))
    double.logits = logits
    with serving(double.app) as address, pytest.raises(UserError, match=f"it returns {told}.*--logprobs-mode"):
        connected(address)
