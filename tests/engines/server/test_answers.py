"""From replies to answers: the same as those of the engine in process, whatever servers differ in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualfocus_eval.engines.local import LocalEngine
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
