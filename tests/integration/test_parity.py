"""lmms-eval's own classes are the reference: where it has one for a family, ``strategy=macro`` gives its answers.

docs/models.md says where they differ and why; what can be taken away of a difference is taken away here: their classes
load in bfloat16 (here both load in float32), and some compress images as JPEG (here as PNG, which loses nothing).
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lmms_eval.models.model_utils.media_encoder import encode_image_to_data_url
from PIL import Image
from transformers import BatchFeature, PreTrainedModel

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.families import family_of
from measurements import random_models
from tests.integration.conftest import Run
from tests.random_checkpoints import save_random_checkpoint

LIMIT = 10
SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class Reference:
    """lmms-eval's class for an architecture, and what makes it comparable."""

    name: str
    theirs: str = ""
    """Its further model arguments."""
    ours: str = ""
    patch: int | None = None
    """Side of the released checkpoints' patches, where the class resizes images by it whatever the checkpoint's are."""
    folder: str = "checkpoint"
    """The checkpoint's, where the class reads the variant off it."""
    module: str | None = None
    """Of the class, where it compresses images."""


QWEN2_PIXELS = "min_pixels=3136,max_pixels=12845056"
REFERENCES = {
    "llava_next": Reference("llava_hf"),
    "llava_onevision": Reference("llava_hf"),
    "qwen2_vl": Reference(
        "qwen2_vl", QWEN2_PIXELS, f"system_prompt={SYSTEM}", patch=14, module="lmms_eval.models.simple.qwen2_vl"
    ),
    "qwen2_5_vl": Reference("qwen2_5_vl", QWEN2_PIXELS, patch=14),
    "qwen3_vl": Reference("qwen3_vl", ours=f"system_prompt={SYSTEM}", patch=16),
    "qwen3_vl_moe": Reference("qwen3_vl", ours=f"system_prompt={SYSTEM}", patch=16, folder="30B-A3B"),
    "qwen3_5": Reference("qwen3_5", "enable_thinking=False", f"system_prompt={SYSTEM}", patch=16),
    "internvl": Reference("internvl_hf", "max_patches=6"),
    "gemma3": Reference("gemma3", ours=f"system_prompt={SYSTEM}", module="lmms_eval.models.simple.gemma3"),
    "gemma4": Reference(
        "gemma4", "max_soft_tokens=70", ours=f"system_prompt={SYSTEM}", module="lmms_eval.models.simple.gemma4"
    ),
    "glm4v": Reference("glm4v", folder="Flash", module="lmms_eval.models.simple.glm4v"),
}


@pytest.mark.parametrize("architecture", [name for name in REFERENCES if name in random_models.ARCHITECTURES])
def test_macro_gives_the_answers_of_lmms_evals_class(
    architecture: str, run_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = REFERENCES[architecture]
    if case.patch:
        builder = with_patches(random_models.ARCHITECTURES[architecture], case.patch)
        monkeypatch.setitem(random_models.ARCHITECTURES, architecture, builder)
    pretrained = save_random_checkpoint(tmp_path / case.folder, architecture)
    shared = ["--tasks", "df_pope_mini", "--limit", str(LIMIT)]
    with monkeypatch.context() as patched:
        load_in_float32(patched)
        if case.module:
            compress_without_loss(patched, case.module)
        theirs = run_here(
            "--model", case.name, "--model_args",
            joined(f"pretrained={pretrained},device=cpu,device_map=cpu", case.theirs), *shared, output="theirs",
        )  # fmt: skip
    ours = run_here(
        "--model_args", joined(f"pretrained={pretrained},device=cpu,strategy=macro,batch_size=7", case.ours),
        *shared, output="ours",
    )  # fmt: skip
    places = comparable(2 * case.patch if case.patch else 1)
    assert len(places) >= LIMIT
    # lmms-eval scores an answer with the marks that a family puts around it, we without: they are the only difference.
    family = family_of(architecture)
    expected = {place: family.unmarked(theirs.answers[place]) for place in places}
    assert {place: ours.answers[place] for place in places} == expected
    assert (expected != {place: theirs.answers[place] for place in places}) == bool(family.answer_marks)
    assert len({theirs.answers[place] for place in places}) > 3


def test_lmms_evals_class_for_any_model_does_not_run(run_here: Run, tmp_path: Path) -> None:
    pretrained = save_random_checkpoint(tmp_path / "checkpoint", "idefics3")
    done = run_here(
        "--model", "huggingface", "--model_args", f"pretrained={pretrained},device=cpu,device_map=cpu",
        "--tasks", "df_pope_mini", "--limit", "1",
    )  # fmt: skip
    assert done.answers == {}
    assert "You passed keyword argument `audios`" in done.output


def joined(*arguments: str) -> str:
    return ",".join(filter(None, arguments))


def with_patches(builder: Callable[[], tuple[Any, Any]], side: int) -> Callable[[], tuple[Any, Any]]:
    """``builder`` with patches and limits of images as in Qwen's released checkpoints."""

    def build() -> tuple[Any, Any]:
        model, processor = builder()
        vision, images = model.config.vision_config, processor.image_processor
        if hasattr(vision, "window_size"):
            vision.window_size *= side // vision.patch_size
        vision.patch_size = images.patch_size = side
        images.size = {"shortest_edge": (4 * side) ** 2, "longest_edge": 12845056}
        return type(model)(model.config), processor

    return build


def load_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    original = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return original(
            cls, *args, **{key: value for key, value in kwargs.items() if "dtype" not in key}, dtype=torch.float32
        )

    def to(self: BatchFeature, *args: Any, dtype: Any = None, **kwargs: Any) -> BatchFeature:
        return moved(self, *args, **kwargs)

    moved = BatchFeature.to
    monkeypatch.setattr(BatchFeature, "to", to)
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(from_pretrained))


def compress_without_loss(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    def encode(image: Image.Image, **kwargs: Any) -> str:
        return encode_image_to_data_url(image, image_format="PNG", mime_type="image/png", convert_rgb=True)

    monkeypatch.setattr(importlib.import_module(module), "encode_image_to_data_url", encode)


def comparable(multiple: int) -> list[tuple[str, int]]:
    """The questions about images that need no resizing to multiples of ``multiple`` pixels."""
    found = []
    for split in ("adversarial", "popular", "random"):
        rows = (
            pq.read_table(resource_folder("tasks") / "pope" / "data" / f"{split}.parquet").slice(0, LIMIT).to_pylist()
        )
        for number, row in enumerate(rows):
            width, height = Image.open(io.BytesIO(row["image"]["bytes"])).size
            if width % multiple == height % multiple == 0:
                found.append((f"df_pope_mini_{split}", number))
    return found
