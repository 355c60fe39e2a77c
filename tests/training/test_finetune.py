"""``dualfocus train`` from random checkpoints: adapters on a Qwen2.5-VL, a whole LLaVA, both answering afterwards."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, set_hf_deepspeed_config

from dualfocus_eval.cli.main import main as dualfocus
from dualfocus_eval.cli.train import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.model import DualFocusChat
from dualfocus_eval.harness.task_index import task_manager
from dualfocus_eval.recipe import load_recipe
from dualfocus_eval.training.stage import load_base
from dualfocus_eval.training.trainer import TuningTrainer
from tests.training.samples import save_base, text_only, write_data, write_recipe

QUESTIONS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    write_data(folder / "data")
    for architecture in ("llava", "qwen2_5_vl"):
        save_base(folder / architecture, architecture)
    return folder


def train(folder: Path, name: str, base: str, *options: str, **stage: Any) -> int:
    recipe = write_recipe(folder / f"{name}.yaml", folder / base, **stage)
    return main([str(recipe), "--data", str(folder / "data"), "--out", str(folder / name), *options])


@pytest.fixture(scope="module")
def full(folder: Path) -> Path:
    """A whole LLaVA in float32, evaluated at its last step."""
    evaluate = {"tasks": ["df_pope_mini"], "every": 5, "limit": QUESTIONS}
    assert train(folder, "full", "llava", "--report-to", "tensorboard", evaluate=evaluate) == 0
    return folder / "full"


@pytest.fixture(scope="module")
def adapters(folder: Path) -> Path:
    """Low-rank adapters in bfloat16."""
    settings = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}, "precision": "bf16", "gradient_checkpointing": True}
    assert train(folder, "adapters", "qwen2_5_vl", **settings) == 0
    return folder / "adapters"


def answers(checkpoint: Path, traces: Path) -> dict[str, str]:
    """What the plugin answers with ``checkpoint``, by question."""
    from lmms_eval.evaluator import simple_evaluate

    model = DualFocusChat(pretrained=str(checkpoint), dtype="float32", trace_dir=str(traces), batch_size=2)
    tasks = ["df_pope_mini"]
    simple_evaluate(model, tasks=tasks, limit=QUESTIONS, log_samples=False, task_manager=task_manager(tasks))
    return traced(traces)


def traced(folder: Path) -> dict[str, str]:
    lines = [json.loads(line) for path in folder.glob("traces.rank*.jsonl") for line in path.read_text().splitlines()]
    return {line["key"]: line["macro"]["text"] for line in lines}


def test_what_was_trained_answers_through_the_plugin(full: Path, adapters: Path, tmp_path: Path) -> None:
    for run in (full, adapters):
        found = answers(run / "checkpoint", tmp_path / run.name)
        assert len(found) == 3 * QUESTIONS
        assert any(found.values())


def test_it_answers_in_training_as_it_does_afterwards(full: Path, tmp_path: Path) -> None:
    """The stage's own weights are those of the last step, in float32."""
    during = traced(full / "1-tune" / "traces")
    assert len(during) == 3 * QUESTIONS
    assert during == answers(full / "1-tune", tmp_path)
    (scores,) = json.loads((full / "1-tune" / "stage.json").read_text())["scores"]
    assert scores["step"] == 5
    assert 0 <= scores["eval_df_pope_mini/accuracy"] <= 1


def test_evaluation_does_not_change_what_is_trained(folder: Path, full: Path) -> None:
    assert train(folder, "unwatched", "llava") == 0
    watched, unwatched = (load_file(run / "1-tune" / "model.safetensors") for run in (full, folder / "unwatched"))
    assert all(torch.equal(watched[name], unwatched[name]) for name in unwatched)
    losses = [json.loads((run / "1-tune" / "stage.json").read_text())["losses"] for run in (full, folder / "unwatched")]
    assert losses[0] == losses[1]


def changed(base: Path, trained: Path) -> set[str]:
    before, after = (
        AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).state_dict() for path in (base, trained)
    )
    return {name for name, weight in after.items() if not torch.equal(weight, before[name])}


def test_frozen_weights_do_not_move(folder: Path, full: Path) -> None:
    moved = changed(folder / "llava", full / "1-tune")
    assert not any("vision_tower" in name for name in moved)
    for part in ("multi_modal_projector.linear_1", "language_model.layers.2.self_attn.q_proj", "lm_head"):
        assert any(part in name for name in moved), part


def test_adapters_change_linear_layers_and_the_connector(folder: Path, adapters: Path) -> None:
    moved = changed(folder / "qwen2_5_vl", adapters / "1-tune")
    layers = {name for name in moved if "language_model.layers" in name}
    assert len(layers) == 3 * 7
    assert all("proj.weight" in name for name in layers)
    assert all("visual.merger" in name for name in moved - layers)
    assert moved - layers


def test_the_processor_answers_as_it_was_trained(full: Path) -> None:
    processor = AutoProcessor.from_pretrained(full / "checkpoint")
    assert "{% generation %}" in processor.chat_template
    losses = json.loads((full / "1-tune" / "stage.json").read_text())["losses"]
    assert any("grounding_loss" in entry for entry in losses)
    for entry in losses:
        assert entry["loss"] == pytest.approx(entry["answer_loss"]) or "grounding_loss" in entry


def test_the_manifest_says_what_the_run_was_made_of(full: Path) -> None:
    manifest = json.loads((full / "manifest.json").read_text())
    assert manifest["train"]["seed"] == 3
    assert manifest["train"]["stages"][0]["learning_rate"] == 0.001
    (stage,) = manifest["stages"]
    (data,) = stage["data"]
    assert (data["samples"], len(data["sha256"])) == (20, 64)
    assert {"torch", "transformers", "peft", "dualfocus_eval"} <= stage["starts"][0]["versions"].keys()
    assert list((full / "1-tune" / "runs").glob("events.out.tfevents.*"))
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ  # the next run in this process has a place of its own
    assert not (full / "1-tune" / "trainer").exists()


def test_a_logger_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualfocus_eval.cli.train.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install wandb"):
        main(["llava-1.5-7b", "--report-to", "wandb"])


def test_a_finished_stage_is_not_run_again(folder: Path, full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = (full / "manifest.json").read_text()
    monkeypatch.setattr("dualfocus_eval.training.manifest.versions", lambda: {"torch": "later"})
    before = (full / "1-tune" / "model.safetensors").stat().st_mtime_ns
    evaluate = {"tasks": ["df_pope_mini"], "every": 5, "limit": QUESTIONS}
    assert train(folder, "full", "llava", evaluate=evaluate) == 0
    assert (full / "1-tune" / "model.safetensors").stat().st_mtime_ns == before
    assert (full / "manifest.json").read_text() == manifest


def test_other_settings_are_not_mixed_in(folder: Path, full: Path) -> None:
    with pytest.raises(UserError, match=r"under other settings or data \(weight_decay\)"):
        train(folder, "full", "llava", weight_decay=0.1)
    recipe = write_recipe(folder / "padded.yaml", folder / "llava")
    recipe.write_text(recipe.read_text() + "inference: {image_aspect: pad}\n")
    with pytest.raises(UserError, match=r"\(.*image_aspect.*\)"):
        main([str(recipe), "--data", str(folder / "data"), "--out", str(full)])


@pytest.mark.parametrize(
    ("path", "message"),
    [("llava", "llava has changed since the stage in .*1-tune was begun"), ("full/1-tune", "changed or cut since the")],
)
def test_weights_that_have_changed_are_not_gone_on_with(folder: Path, full: Path, path: str, message: str) -> None:
    evaluate = {"tasks": ["df_pope_mini"], "every": 5, "limit": QUESTIONS}
    weights = folder / path / "model.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(UserError, match=message):
            train(folder, "full", "llava", evaluate=evaluate)
    finally:
        weights.write_bytes(before)


def test_adapters_are_not_merged_into_another_base(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = iter(["as it was loaded", "as it is now"])
    for module in ("finetune", "stage"):
        monkeypatch.setattr(f"dualfocus_eval.training.{module}.base_digest", lambda _: next(digests))
    with pytest.raises(UserError, match="qwen2_5_vl has changed since"):
        train(folder, "moved", "qwen2_5_vl", lora={"rank": 2, "alpha": 4})
    assert not (folder / "moved" / "1-tune" / "model.safetensors").exists()
    assert not (folder / "moved" / "checkpoint").exists()


def test_an_interrupted_run_ends_with_130_and_goes_on(
    folder: Path, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TuningTrainer.training_step

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    recipe = write_recipe(tmp_path / "r.yaml", folder / "llava", save_every=2)
    command = ["train", str(recipe), "--data", str(folder / "data"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(TuningTrainer, "training_step", interrupted)
    assert dualfocus(command) == 130
    monkeypatch.setattr(TuningTrainer, "training_step", step)
    assert dualfocus(command) == 0
    trained, whole = (load_file(out / "1-tune" / "model.safetensors") for out in (tmp_path / "out", full))
    assert all(torch.equal(trained[name], whole[name]) for name in whole)


@pytest.mark.parametrize("out", ["/proc/train", "file/run"])
def test_a_folder_that_cannot_be_written_is_named(folder: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    recipe = write_recipe(tmp_path / "r.yaml", Path("/no/such/base"))
    for option in ([], ["--dry-run"]):
        with pytest.raises(UserError, match=r"--out .* cannot be written"):
            main([str(recipe), "--data", str(folder / "data"), "--out", str(tmp_path / out), *option])


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, logger="dualfocus_eval"):
        yield caplog


def test_bad_samples_cost_only_themselves(folder: Path, tmp_path: Path, messages: pytest.LogCaptureFixture) -> None:
    """One without an answer, one whose image is missing, one whose image is cut off, and one that is too long; one that
    is no text, half a character, and what comes after the list.
    """
    data = tmp_path / "data"
    rows = write_data(data)
    whole = (data / "images/1.png").read_bytes()
    (data / "images/cut.png").write_bytes(whole[:-40])
    rows[1]["image"], rows[4]["image"] = "cut.png", "missing.png"
    rows[2]["conversations"] = []
    rows[5]["conversations"][1]["value"] = "no " * 400
    rows += [text_only(answer) for answer in (None, "\ud83d")]  # type: ignore[arg-type]
    (data / "train.json").write_text(json.dumps(rows) + json.dumps([text_only()]))
    recipe = write_recipe(tmp_path / "bad.yaml", folder / "llava", max_length=400)
    assert main([str(recipe), "--data", str(data), "--out", str(tmp_path / "out")]) == 1
    record = json.loads((tmp_path / "out" / "1-tune" / "stage.json").read_text())
    assert (record["samples"], record["too_long"], record["unreadable"]) == (17, 1, 1)
    assert (tmp_path / "out" / "checkpoint" / "model.safetensors").exists()
    for place in ("entry 2", "entry 3", "entry 5", "entry 21", "entry 22", "after entry 22"):
        named = [*messages.messages, (tmp_path / "out" / "1-tune" / "rejected.0.jsonl").read_text()]
        assert any(f"train.json, {place}" in message for message in named), place


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"data": [{"file": "none.json"}]}, "data file .*none.json is missing"),
        ({"data": [{"file": "train.json", "images": "none"}]}, "image folder .*none of train.json is missing"),
        ({"data": [{"file": "train.json", "images": "crops"}]}, None),
        ({"max_length": 3}, "all samples are longer than max_length 3"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(
    folder: Path, tmp_path: Path, stage: dict[str, Any], message: str | None
) -> None:
    recipe = write_recipe(tmp_path / "wrong.yaml", folder / "llava", **stage)
    command = [str(recipe), "--data", str(folder / "data"), "--out", str(tmp_path / "out")]
    if message is None:
        assert main(command) == 1  # the samples without images are left
        return
    with pytest.raises(UserError, match=message):
        main(command)


def test_a_task_that_there_is_none_of_is_refused_before_anything_loads(folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", Path("/no/such/base"), evaluate={"tasks": ["df_pop_mini"], "every": 1})
    with pytest.raises(UserError, match="no task is called df_pop_mini"):
        main([str(recipe), "--data", str(folder / "data"), "--out", str(tmp_path / "out")])


def test_a_wrong_later_stage_is_refused_before_the_first_is_trained(folder: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "two.yaml", folder / "llava")
    content = yaml.safe_load(path.read_text())
    (first,) = content["train"]["stages"]
    content["train"]["stages"].append(first | {"name": "later", "max_length": 3})
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="stage later: all samples are longer"):
        main([str(path), "--data", str(folder / "data"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "1-tune" / "stage.json").exists()


def test_out_of_memory_it_goes_on_with_a_smaller_micro_batch(
    folder: Path, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses are those of a run that nothing happened to, and intervals are those of the new recipe."""
    step = TuningTrainer.training_step

    def one_too_many(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise torch.OutOfMemoryError
        return step(self, *args, **kwargs)

    def run(**stage: Any) -> None:
        recipe = write_recipe(tmp_path / "r.yaml", folder / "llava", **stage)
        assert main([str(recipe), "--data", str(folder / "data"), "--out", str(tmp_path / "out")]) == 0

    monkeypatch.setattr(TuningTrainer, "training_step", one_too_many)
    with pytest.raises(UserError, match="out of memory: lower micro_batch_size"):
        run(save_every=2)
    monkeypatch.setattr(TuningTrainer, "training_step", step)
    evaluate = {"tasks": ["df_pope_mini"], "every": 4, "limit": 1}
    run(micro_batch_size=1, gradient_checkpointing=True, evaluate=evaluate)
    record, whole = (json.loads((out / "1-tune" / "stage.json").read_text()) for out in (tmp_path / "out", full))
    assert [entry["step"] for entry in record["losses"]] == [1, 2, 3, 4, 5]
    for entry, expected in zip(record["losses"], whole["losses"], strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)
    assert record["scores"][0]["step"] == 4


def test_weights_to_export_are_whole_even_under_zero3(folder: Path) -> None:
    class Zero3:
        def is_zero3(self) -> bool:
            return True

    settings = Zero3()
    set_hf_deepspeed_config(settings)
    assert is_deepspeed_zero3_enabled()
    path = write_recipe(folder / "zero.yaml", folder / "llava")
    model, _, _ = load_base(str(folder / "llava"), load_recipe(path), None)
    assert not is_deepspeed_zero3_enabled()
    assert all(weight.numel() for weight in model.parameters())


@pytest.mark.skipif(torch.accelerator.is_available(), reason="is about machines without one")
@pytest.mark.parametrize(
    ("name", "message"), [("FSDP", "start them with accelerate launch"), ("DEEPSPEED", "DeepSpeed needs one")]
)
def test_weights_are_not_silently_left_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    """Accelerate ignores FSDP in a single process, and DeepSpeed on CPU."""
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(UserError, match=message):
        train(folder, "sharded", "llava")


def test_two_stages_go_on_one_after_the_other(folder: Path, tmp_path: Path) -> None:
    path = write_recipe(
        tmp_path / "two.yaml", folder / "llava", name="first", freeze=["vision_tower", "language_model"]
    )
    content = yaml.safe_load(path.read_text())
    (first,) = content["train"]["stages"]
    second = first | {"name": "second", "freeze": ["vision_tower", "connector"]}
    content["train"]["stages"].append(second)
    path.write_text(yaml.safe_dump(content))
    assert main([str(path), "--data", str(folder / "data"), "--out", str(tmp_path / "out")]) == 0
    assert all("projector" in name for name in changed(folder / "llava", tmp_path / "out" / "1-first"))
    later = changed(tmp_path / "out" / "1-first", tmp_path / "out" / "2-second")
    assert later
    assert not any("projector" in name or "vision_tower" in name for name in later)
