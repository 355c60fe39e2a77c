"""Limits of image sizes: the processor at hand and the server's resize images alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.identity import processor_digest
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.processor import at_hand, image_options
from measurements.random_models import build
from tests.engines.asking import picture
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.server_double import Refusal, ServerDouble, serving

URL = "http://localhost:1"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("qwen")
    for part in build("qwen2_5_vl"):
        part.save_pretrained(folder)
    return str(folder)


def test_limits_reach_the_processor_and_the_server(qwen: str) -> None:
    config = ServerConfig(URL, pretrained=qwen, max_pixels=800)
    (_, free), (_, limited) = at_hand(ServerConfig(URL, pretrained=qwen)), at_hand(config)
    assert free is not None
    assert limited is not None
    shown = picture(1, (80, 60)).pixels
    assert (limited.image_tokens(shown) or 0) < (free.image_tokens(shown) or 0)
    # Stored answers of one are not reused by the other.
    assert processor_digest(limited.template.processor) != processor_digest(free.template.processor)
    assert image_options(config, limited) == {"size": {"shortest_edge": 256, "longest_edge": 800}}
    assert image_options(ServerConfig(URL, pretrained=qwen), free) == {}


def test_limits_that_nothing_takes_are_refused(qwen: str) -> None:
    with pytest.raises(UserError, match="do not apply to llava"):
        at_hand(ServerConfig(URL, pretrained=EMBEDDED, max_pixels=800))
    with pytest.raises(UserError, match="name it with pretrained="):
        at_hand(ServerConfig(URL, min_pixels=800))
    with pytest.raises(UserError, match="exceeds max_pixels"):
        at_hand(ServerConfig(URL, pretrained=qwen, min_pixels=800, max_pixels=400))


class Limited(ServerDouble):
    """Started with the limits, and not with ``--trust-request-mm-kwargs``."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("mm_processor_kwargs"):
            raise Refusal(400, "Passing mm_processor_kwargs in requests is disabled.")
        return super().answer(body)


class Trusting(ServerDouble):
    """Started with ``--trust-request-mm-kwargs`` alone."""

    def _inputs(self, body: dict[str, Any]) -> Any:
        processor = self._processor.image_processor
        kept, processor.size = processor.size, (body.get("mm_processor_kwargs") or {}).get("size", processor.size)
        try:
            return super()._inputs(body)
        finally:
            processor.size = kept


def test_limits_hold_on_every_server(qwen: str, connected: Connect) -> None:
    limited, trusting = Limited(Path(qwen)), Trusting(Path(qwen))
    limited._processor.image_processor.size = {"shortest_edge": 512, "longest_edge": 1600}
    # The sample of the fingerprint is so large that this limit does not show in it.
    with serving(limited.app) as started, serving(trusting.app) as asked:
        assert connected(started, pretrained=qwen, min_pixels=512)._shared.image_options == {}
        sent = connected(asked, pretrained=qwen, min_pixels=512)._shared.image_options
        assert sent == {"size": {"shortest_edge": 512, "longest_edge": 1600}}
        with pytest.raises(UserError, match=f"{started}.* was started with the limits") as caught:
            connected(f"{asked},{started}", pretrained=qwen, min_pixels=512)
        assert f"{asked}/v1 without" in str(caught.value)
