"""A random Qwen2.5-VL behind vLLM: the server resizes images as the processor at hand does, or the run is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Message, Picture
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.connecting import connect
from measurements.random_models import build
from measurements.vllm_server import Running, serving

pytestmark = pytest.mark.server

PICTURE = Picture(Image.linear_gradient("L").resize((400, 240)).convert("RGB"))
CONVERSATION = (Message("user", (PICTURE, "What is this?")),)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With heads of 32 values, since vLLM's CPU attention takes none that are smaller."""
    folder: Path = tmp_path_factory.mktemp("qwen")
    model, processor = build("qwen2_5_vl")
    text = model.config.text_config
    text.num_attention_heads, text.num_key_value_heads = text.hidden_size // 32, 1
    text.rope_parameters["mrope_section"] = [4, 6, 6]
    AutoModelForImageTextToText.from_config(model.config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    options = ("--limit-mm-per-prompt", '{"image": 2, "video": 0}', "--skip-mm-profiling", "--max-model-len", "1024")
    folder = tmp_path_factory.mktemp("vllm")
    with serving(folder, *options, "--trust-request-mm-kwargs", checkpoint=checkpoint) as running:
        yield running


@pytest.mark.parametrize("limits", [{}, {"min_pixels": 512, "max_pixels": 800}, {"max_pixels": 50176}])
def test_the_server_resizes_as_the_processor_at_hand(qwen: Running, checkpoint: Path, limits: dict[str, int]) -> None:
    engine = connect(ServerConfig(qwen.base_url, pretrained=str(checkpoint), **limits))
    try:
        (tokens,) = (part for part in engine.prompt_parts(CONVERSATION) if isinstance(part, int))
        width, height = engine.encoded_size(PICTURE)
        assert tokens == engine.expected_image_tokens(PICTURE)
        assert tokens == width * height // 64  # patches of 4 pixels, merged 2 by 2
        assert width * height <= limits.get("max_pixels", 1600)
    finally:
        engine.close()


def test_limits_of_another_family_are_refused(qwen: Running) -> None:
    with pytest.raises(UserError, match="do not apply to llava"):
        connect(ServerConfig(qwen.base_url, pretrained="models/dualfocus-tiny", max_pixels=800))
