"""Exported checkpoints load in transformers and in the engine, under the hub's names, and answer as the model did."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

from dualfocus_eval.cli.train import main as train
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.export import export
from measurements.random_models import build

RECIPE = Recipe(path=Path("mine.yaml"), inference={"margin": 12, "box_frame": "image"}, train={"base": "owner/name"})
LOG = [{"stage": "finetune", "steps": 2, "samples": 8, "seconds": 1, "losses": []}]
HUB_NAMES = {
    "llava": ("language_model.lm_head", "language_model.model", "multi_modal_projector", "vision_tower.vision_model"),
    "qwen2_5_vl": ("lm_head", "model", "visual"),
}


def inputs(processor: Any) -> Any:
    text = f"USER: {processor.image_token}\nis there a red cup"
    picture = Image.linear_gradient("L").convert("RGB").resize((48, 32))
    return processor(text=text, images=[picture], return_tensors="pt")


def logits(model: Any, processor: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(processor)).logits
    return found


def names(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            found |= set(weights.keys())
    return found


@pytest.mark.parametrize("architecture", HUB_NAMES)
def test_an_exported_model_answers_as_before(architecture: str, tmp_path: Path) -> None:
    model, processor = build(architecture)
    before = model.generate(**inputs(processor), max_new_tokens=8)
    target = export(RECIPE, model, processor, tmp_path / "checkpoint", LOG, torch.float32)
    loaded, info = AutoModelForImageTextToText.from_pretrained(target, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    again = AutoProcessor.from_pretrained(target)
    assert again.chat_template == processor.chat_template
    assert torch.equal(loaded.generate(**inputs(again), max_new_tokens=8), before)
    assert all(name.startswith(HUB_NAMES[architecture]) for name in names(target))
    assert not (tmp_path / "checkpoint.unfinished").exists()


@pytest.mark.parametrize("architecture", HUB_NAMES)
def test_the_template_of_training_goes_with_it_and_marks_the_answers(architecture: str, tmp_path: Path) -> None:
    model, processor = build(architecture)
    processor.chat_template = FAMILIES[architecture].training_template
    again = AutoProcessor.from_pretrained(export(RECIPE, model, processor, tmp_path / "checkpoint", LOG))
    messages = [{"role": "user", "content": [{"type": "text", "text": "is there a cup"}]}]
    messages.append({"role": "assistant", "content": [{"type": "text", "text": "yes"}]})
    tokens = again.tokenizer.apply_chat_template(
        messages, chat_template=again.chat_template, return_dict=True, return_assistant_tokens_mask=True
    )
    answer = [token for token, said in zip(tokens["input_ids"], tokens["assistant_masks"], strict=True) if said]
    assert again.tokenizer.decode(answer[:-1]).strip() == "yes"
    assert answer[-1] == again.tokenizer.eos_token_id


def test_the_template_takes_plain_strings() -> None:
    """As lmms-eval's llava_hf passes them."""
    tokenizer = build("llava")[1].tokenizer
    template = FAMILIES["llava"].training_template
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is it"}]}]
    string = [{"role": "user", "content": "<image>\nis it"}]
    rendered = [
        tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
        for messages in (parts, string)
    ]
    assert rendered[0] == rendered[1] == "USER: <image>\nis it ASSISTANT:"


def test_it_is_in_bfloat16_and_says_how_it_answers_and_what_it_comes_from(tmp_path: Path) -> None:
    model, processor = build("llava")
    target = export(RECIPE, model, processor, tmp_path / "checkpoint", LOG)
    assert AutoModelForImageTextToText.from_pretrained(target).dtype == torch.bfloat16
    record = json.loads((target / "dualfocus.json").read_text())
    assert record["provenance"]["train"] == {"base": "owner/name"}
    assert record["provenance"]["stages"] == [{"stage": "finetune", "steps": 2, "samples": 8, "seconds": 1}]
    config = resolve({"pretrained": str(target)})
    assert (config.settings.margin, config.sources["margin"]) == (12, "checkpoint")


def test_several_weight_files_are_all_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = build("llava")
    save = type(model).save_pretrained
    monkeypatch.setattr(type(model), "save_pretrained", lambda self, folder: save(self, folder, max_shard_size="200KB"))
    target = export(RECIPE, model, processor, tmp_path / "checkpoint", LOG, torch.float32)
    index = json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1
    assert set(index) == names(target)
    _, info = AutoModelForImageTextToText.from_pretrained(target, output_loading_info=True)
    assert not info["missing_keys"]


@pytest.mark.parametrize("architecture", HUB_NAMES)
def test_adapter_and_base_are_the_merged_model(architecture: str, tmp_path: Path) -> None:
    base, processor = build(architecture)
    connector = "merger" if architecture == "qwen2_5_vl" else "multi_modal_projector"
    config = LoraConfig(
        r=4, target_modules=r".*language_model\.layers\..*_proj", init_lora_weights=False, modules_to_save=[connector]
    )
    model = get_peft_model(copy.deepcopy(base), config).eval()
    with torch.no_grad():  # a trained connector
        for name, weight in model.named_parameters():
            if "modules_to_save" in name:
                weight.mul_(1.1)
    trained = logits(model, processor)
    model.save_pretrained(tmp_path / "stage")
    merged_model = model.merge_and_unload()
    target = export(
        RECIPE, merged_model, processor, tmp_path / "checkpoint", LOG, torch.float32, adapter=tmp_path / "stage"
    )
    merged = logits(AutoModelForImageTextToText.from_pretrained(target), processor)
    adapted = logits(PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter"), processor)
    assert not torch.allclose(trained, logits(base, processor), atol=1e-2)
    torch.testing.assert_close(merged, trained, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(merged, adapted, rtol=1e-5, atol=1e-4)
    assert json.loads((tmp_path / "adapter" / "dualfocus.json").read_text())["inference"]["margin"] == 12


def test_a_run_with_adapters_leaves_them_and_the_merged_model(tmp_path: Path) -> None:
    model, processor = build("qwen2_5_vl")
    processor.chat_template = FAMILIES["qwen2_5_vl"].training_template
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    Image.new("RGB", (40, 32), "red").save(tmp_path / "a.png")
    said = [{"from": "human", "value": "<image>\nwhat colour?"}, {"from": "gpt", "value": "red"}]
    (tmp_path / "mix.json").write_text(json.dumps([{"image": "a.png", "conversations": said}] * 4))
    (tmp_path / "mine.yaml").write_text(
        f"""
train:
  base: {tmp_path / "base"}
  stages:
    - {{name: s, objective: instructions, data: [{{file: mix.json}}], batch_size: 2, learning_rate: 0.05,
        freeze: [vision_tower], lora: {{rank: 4, alpha: 16}}, precision: fp32}}
"""
    )
    run = tmp_path / "run"
    assert train([str(tmp_path / "mine.yaml"), "--data", str(tmp_path), "--out", str(run)]) == 0
    base, stage = (AutoModelForImageTextToText.from_pretrained(path) for path in (tmp_path / "base", run / "1-s"))
    adapted = logits(PeftModel.from_pretrained(copy.deepcopy(base), run / "adapter"), processor)
    assert not torch.allclose(adapted, logits(base, processor), atol=1e-2)
    torch.testing.assert_close(adapted, logits(stage, processor), rtol=1e-5, atol=5e-5)
    merged = AutoModelForImageTextToText.from_pretrained(run / "checkpoint", dtype=torch.bfloat16)
    for name, weight in stage.state_dict().items():
        assert torch.equal(merged.state_dict()[name], weight.bfloat16())


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = build("llava")
    target = export(RECIPE, model, processor, tmp_path / "checkpoint", LOG, torch.float32)
    before = (target / "training.json").stat().st_mtime_ns

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(type(processor), "save_pretrained", fail)
        with pytest.raises(OSError, match="disk full"):
            export(RECIPE, model, processor, target, LOG, torch.float32)
    assert (target / "training.json").stat().st_mtime_ns == before
    export(RECIPE, model, processor, target, LOG, torch.float32)
    assert (target / "training.json").stat().st_mtime_ns > before
