"""Limits of image sizes: the processor at hand and the server's resize images alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.identity import processor_digest
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.processor import at_hand, image_options
from measurements.random_models import build
from tests.engines.asking import picture
from tests.engines.server.conftest import EMBEDDED

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
