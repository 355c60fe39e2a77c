"""From replies to answers: the same as those of the engine in process, whatever servers differ in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.engines.base import ScoreRequest
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.in_process import load_engine
from dualfocus_eval.engines.local import LocalEngine
from measurements.random_models import build
from tests.engines.asking import ask, completed, picture
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.server_double import ServerDouble, serving


class Spaced(ServerDouble):
    """Writes an answer as it stands after the prompt, as vLLM does: with the space that SentencePiece has there."""

    def _choice(self, body: dict[str, Any], ids: list[int], logprobs: Sequence[Any]) -> dict[str, Any]:
        choice = super()._choice(body, ids, list(logprobs))
        choice["message"]["content"] = " " + choice["message"]["content"]
        return choice


def test_the_text_is_that_of_the_tokenizer_at_hand(connected: Connect, in_process: LocalEngine) -> None:
    requests = [
        ask(picture(1, (80, 60)), "What color is the box?"),
        ask(picture(2, (60, 80)), "Where is the label?", most=20, stop=("1", "lab")),
    ]
    with serving(Spaced(Path(EMBEDDED)).app) as address:
        found = [completed(one) for one in connected(address).generate(requests)]
        unknown = [completed(one) for one in connected(address, pretrained=None).generate(requests)]
    expected = [completed(one).text for one in in_process.generate(requests)]
    assert [one.text for one in found] == expected
    assert [one.text for one in unknown] == [f" {text}" for text in expected]


def test_an_empty_stop_text_is_none(served: str, connected: Connect, in_process: LocalEngine) -> None:
    """vLLM refuses it."""
    request = ask(picture(1, (80, 60)), "What color is the box?", stop=("", "zzz"))
    assert completed(connected(served).generate([request])[0]).text == completed(in_process.generate([request])[0]).text


def test_a_text_that_would_move_the_image_fails_as_in_process(
    served: str, connected: Connect, in_process: LocalEngine
) -> None:
    request = ask("What does <image> mean?", picture(1))
    engine = connected(served)
    assert [engine.generate([request]), engine.score([ScoreRequest(request.conversation, (5,))])] == [
        in_process.generate([request]),
        in_process.score([ScoreRequest(request.conversation, (5,))]),
    ]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has a repetition penalty, and many tokens that end an answer."""
    folder: Path = tmp_path_factory.mktemp("qwen")
    for part in build("qwen2_5_vl"):
        part.save_pretrained(folder)
    return folder


def test_the_checkpoint_s_own_settings_of_generation_count(qwen: Path, connected: Connect) -> None:
    double, local = ServerDouble(qwen), load_engine(EngineConfig(str(qwen)))
    double._model.generation_config.repetition_penalty = None  # as vLLM with --generation-config vllm
    requests = [ask(picture(number, (40, 30)), "What is this?", most=20) for number in range(4)]
    with serving(double.app) as address:
        engine = connected(address, pretrained=str(qwen))
        found = [completed(one) for one in engine.generate(requests)]
    expected = [completed(one) for one in local.generate(requests)]
    assert [(one.token_ids, one.text, one.finish) for one in found] == [
        (one.token_ids, one.text, one.finish) for one in expected
    ]
    assert "eos" in {one.finish for one in found}
    ends = {one.token_ids[-1] for one in found if one.finish == "eos"}
    assert ends <= engine._tokens.template.end_ids
    assert engine._tokens.template.default_end_id == local.checkpoint.default_end_id
    assert engine.key["repetition_penalty"] == "1.1"
    assert any("repetition_penalty" in warning for warning in engine.warnings)
