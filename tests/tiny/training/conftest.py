from __future__ import annotations

from typing import Any

import pytest

from dualfocus_eval.tiny.training.corpus import PHRASES, scene_corpus
from dualfocus_eval.tiny.training.from_nothing import ModelShape, build_processor, build_tokenizer

SHAPE = ModelShape(
    image_size=32, patch_size=8, vision_width=32, vision_layers=1, vision_heads=2, text_width=32, text_layers=1,
    text_heads=2, text_mlp=64,
)  # fmt: skip


@pytest.fixture(scope="session")
def processor() -> Any:
    return build_processor(build_tokenizer(scene_corpus("released"), PHRASES), SHAPE)
