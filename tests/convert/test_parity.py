"""The converted checkpoint computes what the original computes, from the same token ids."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from dualfocus_eval.cli.main import main
from measurements.original_llava import IMAGE, IMAGE_SIDE, PATCH, write_checkpoint

PATCHES = (IMAGE_SIDE // PATCH) ** 2


@pytest.mark.parametrize("with_tower", [True, False], ids=["tower inside", "tower beside"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_logits_are_the_originals(tmp_path: Path, suffix: str, with_tower: bool) -> None:
    original = write_checkpoint(tmp_path / "source", suffix=suffix, with_tower=with_tower)
    arguments = [str(tmp_path / "source"), str(tmp_path / "out"), "--vision-tower", str(tmp_path / "source" / "tower")]
    assert main(["convert", "llava", *arguments]) == 0
    model, info = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    images = [Image.effect_noise((40, 25), 90).convert("RGB"), Image.effect_noise((20, 31), 90).convert("RGB")]
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what colour is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "[0.12, 0.34, 0.56, 0.78]"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the region?"}]},
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=text, images=images, return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs).logits[0]
    ids = _one_id_per_image(inputs["input_ids"][0].tolist(), processor.image_token_id)
    assert ids.count(IMAGE) == 2
    expected = original.logits(ids, inputs["pixel_values"])
    tokens = expected.shape[1]
    assert found.shape == (len(ids) - 2 + 2 * PATCHES, -(-(tokens + 2) // 64) * 64)
    assert expected.std() > 0.3
    torch.testing.assert_close(found[:, :tokens], expected, atol=1e-4, rtol=0)


def _one_id_per_image(ids: list[int], image_id: int) -> list[int]:
    shortened: list[int] = []
    run = 0
    for number in ids:
        run = run + 1 if number == image_id else 0
        if number != image_id:
            shortened.append(number)
        elif run % PATCHES == 1:
            shortened.append(IMAGE)
    return shortened
