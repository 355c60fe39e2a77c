"""``accelerate launch`` with models/accelerate/fsdp.yaml: weights shared out over two processes that talk over gloo.

The reference is the same recipe in this one process, whole.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from dualfocus_eval.cli.train import main
from dualfocus_eval.common.resources import resource_folder
from tests.integration.conftest import BIN
from tests.integration.training import Training, same_weights
from tests.training.samples import save_base, write_data, write_recipe

pytestmark = pytest.mark.skipif(torch.accelerator.is_available(), reason="two processes would share one GPU")

CONFIG = resource_folder("models") / "accelerate" / "fsdp.yaml"
FSDP = (
    str(BIN / "accelerate"), "launch", "--config_file", str(CONFIG), "--num_processes", "2", "--main_process_port", "0",
    "-m",
)  # fmt: skip


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Training:
    """Five steps of two accumulated passes per process, with checkpoints after the second and the fourth."""
    folder = tmp_path_factory.mktemp("fsdp")
    write_data(folder / "data", 36)
    save = {"save_every": 2, "gradient_checkpointing": True}
    write_recipe(folder / "full.yaml", save_base(folder / "llava", "llava"), batch_size=8, **save)
    write_recipe(folder / "half.yaml", folder / "llava", batch_size=8, precision="bf16")
    adapters = {"rank": 4, "alpha": 8, "dropout": 0.0}
    write_recipe(folder / "lora.yaml", save_base(folder / "qwen", "qwen2_5_vl"), batch_size=12, lora=adapters)
    return Training(folder, environment)


@pytest.fixture(scope="module")
def sharded(training: Training) -> str:
    """What the undisturbed run of the whole LLaVA printed."""
    return training.finish("full", "sharded", *FSDP)


def train_whole(training: Training, recipe: str) -> str:
    """The name of the run."""
    out = f"{recipe}-whole"
    folder = training.folder
    assert main([str(folder / f"{recipe}.yaml"), "--data", str(folder / "data"), "--out", str(folder / out)]) == 0
    return out


def assert_trained_alike(training: Training, first: str, second: str) -> None:
    losses, others = training.record(first)["losses"], training.record(second)["losses"]
    assert [entry.keys() for entry in losses] == [entry.keys() for entry in others]
    for entry, other in zip(losses, others, strict=True):
        assert entry == pytest.approx(other, rel=1e-5)
    weights = training.weights(second)
    assert weights.keys() == training.weights(first).keys()
    for name, weight in training.weights(first).items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-5)


def test_each_process_holds_half_of_the_weights(training: Training, sharded: str) -> None:
    line = re.search(r"weights: ([\d,]+), of which the processes hold ([\d,]+) to ([\d,]+)", sharded)
    assert line, sharded
    every, least, most = (int(number.replace(",", "")) for number in line.groups())
    model = AutoModelForImageTextToText.from_pretrained(training.folder / "llava")
    assert every == sum(weight.numel() for weight in model.parameters())
    assert 0.49 * every < least <= most < 0.51 * every


def test_sharing_out_changes_neither_losses_nor_weights(training: Training, sharded: str) -> None:
    assert_trained_alike(training, "sharded", train_whole(training, "full"))
    exported = load_file(training.folder / "sharded" / "checkpoint" / "model.safetensors")
    whole = load_file(training.folder / "full-whole" / "checkpoint" / "model.safetensors")
    assert exported.keys() == whole.keys()
    for name, weight in exported.items():  # both rounded to bfloat16
        torch.testing.assert_close(weight.float(), whole[name].float(), rtol=2**-7, atol=1e-5)


def test_in_half_precision_the_losses_are_nearly_those_of_one_process(training: Training) -> None:
    training.finish("half", "half", *FSDP)
    losses, others = training.record("half")["losses"], training.record(train_whole(training, "half"))["losses"]
    assert [entry["loss"] for entry in losses] == pytest.approx([entry["loss"] for entry in others], rel=0.01)


def test_killed_while_it_writes_a_checkpoint_it_goes_on_from_the_one_before(training: Training, sharded: str) -> None:
    def writing() -> bool:
        found = training.checkpoints("killed")
        return found.get("checkpoint-2", False) and not found.get("checkpoint-4", True)

    training.kill_when("full", "killed", writing, *FSDP)
    output = training.finish("full", "killed", *FSDP)
    assert "checkpoint-4 is passed over: its writing was broken off" in output
    assert training.record("killed")["losses"] == training.record("sharded")["losses"]
    assert same_weights(training.weights("killed"), training.weights("sharded"))


def test_adapters_are_exported_alone_and_merged_and_answer(training: Training) -> None:
    training.finish("lora", "lora", *FSDP)
    assert_trained_alike(training, "lora", train_whole(training, "lora"))
    out = training.folder / "lora"
    merged = AutoModelForImageTextToText.from_pretrained(out / "1-tune", dtype=torch.float32)
    base = AutoModelForImageTextToText.from_pretrained(training.folder / "qwen", dtype=torch.float32)
    found, untrained = logits(merged, out), logits(base, out)
    adapted = logits(PeftModel.from_pretrained(base, out / "adapter"), out)
    torch.testing.assert_close(adapted, found, rtol=0, atol=1e-4)
    assert not torch.allclose(untrained, found, atol=1e-2)
    assert json.loads((out / "adapter" / "dualfocus.json").read_text())["provenance"]["recipe"] == "lora.yaml"
    checkpoint = AutoModelForImageTextToText.from_pretrained(out / "checkpoint", dtype=torch.bfloat16)
    answer = checkpoint.generate(**question(out), max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > question(out)["input_ids"].shape[1]


def logits(model: torch.nn.Module, out: Path) -> torch.Tensor:
    with torch.no_grad():
        return model(**question(out)).logits


def question(out: Path) -> dict[str, torch.Tensor]:
    processor = AutoProcessor.from_pretrained(out / "checkpoint")
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a red cup?"}]}]
    text = processor.apply_chat_template(asked, add_generation_prompt=True)
    return dict(processor(images=[Image.new("RGB", (40, 30))], text=[text], return_tensors="pt"))
