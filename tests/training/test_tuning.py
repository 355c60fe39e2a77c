"""A ``train`` section that starts from a checkpoint is refused before anything heavy loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dualfocus_eval.cli.train import main, plan_of
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.recipe import load_recipe
from dualfocus_eval.training.tuning import Evaluation, Lora, Source, TuningPlan

GOOD = """
train:
  base: llava-hf/llava-1.5-7b-hf
  seed: 42
  stages:
    - name: finetune
      objective: instructions
      data:
        - {file: dualfocus/train.json, images: vg, weight: 0.5}
        - {file: mix.json}
      batch_size: 128
      micro_batch_size: 16
      learning_rate: 2.0e-5
      schedule: cosine
      warmup: 0.03
      weight_decay: 0
      freeze: [vision_tower]
      lora: {rank: 64, alpha: 128, dropout: 0.05}
      max_length: 2048
      precision: bf16
      gradient_checkpointing: true
      group_by_length: true
      evaluate: {tasks: [df_pope_mini], every: 500}
"""


def plan(folder: Path, text: str) -> TuningPlan:
    path = folder / "recipe.yaml"
    path.write_text(text)
    found = plan_of(load_recipe(path))
    assert isinstance(found, TuningPlan)
    return found


def test_a_good_plan_is_read(tmp_path: Path) -> None:
    found = plan(tmp_path, GOOD)
    (stage,) = found.stages
    assert (found.base, found.seed) == ("llava-hf/llava-1.5-7b-hf", 42)
    assert stage.data == (Source("dualfocus/train.json", "vg", 0.5), Source("mix.json", ".", 1.0))
    assert stage.lora == Lora(64, 128.0, 0.05)
    assert stage.evaluate == Evaluation(("df_pope_mini",), 500)
    assert stage.freeze == ("vision_tower",)
    assert type(stage.weight_decay) is float


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 128", "batchsize: 128", "Did you mean batch_size"),
        ("  seed: 42", "  model: {}", "base .* and model .* exclude each other"),
        ("learning_rate: 2.0e-5", "learning_rate: 2e-5", "write 2.0e-5 for 2e-5"),
        ("learning_rate: 2.0e-5", "learning_rate: -1", "learning_rate: -1 must be at least 0"),
        ("learning_rate: 2.0e-5", "learning_rate: .nan", "learning_rate: nan must be"),
        ("weight: 0.5", "weight: 0", "data 1, weight: 0 must be above 0"),
        ("{file: mix.json}", "{images: mix}", "data 2: file is missing"),
        ("{file: mix.json}", "mix.json", "data 2: expected keys with values, found str"),
        ("[vision_tower]", "[vision]", "freeze 1: 'vision' is not one of: vision_tower, connector, language_model"),
        ("[vision_tower]", "vision_tower", "freeze: expected a list"),
        ("[vision_tower]", "[language_model]", "lora trains the language model"),
        ("rank: 64", "rank: 64.5", "lora, rank: 64.5 is not a whole number"),
        ("dropout: 0.05", "dropout: 1", "lora, dropout: 1 must be at least 0 and below 1"),
        ("precision: bf16", "precision: fp16", "'fp16' is not one of: bf16, fp32"),
        ("checkpointing: true", "checkpointing: 1", "1 is not true or false"),
        ("every: 500", "every: 500, limit: 0", "evaluate, limit: 0 must be at least 1"),
        ("tasks: [df_pope_mini]", "tasks: []", "tasks must name at least one task"),
        ("micro_batch_size: 16", "micro_batch_size: 48", "128 is not a multiple of micro_batch_size 48"),
        ("name: finetune", "name: a/b", "usable as a folder's name"),
        ("objective: instructions", "objective: conversations", "'conversations' is not one of: instructions"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UserError, match=message):
        plan(tmp_path, GOOD.replace(old, new, 1))


def test_wrong_answer_settings_are_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("inference: {margin: wide}" + GOOD)
    with pytest.raises(UserError, match=r"r\.yaml, inference, margin: 'wide' is not a number"):
        main([str(tmp_path / "r.yaml")])


def test_accumulation_follows_from_the_number_of_processes(tmp_path: Path) -> None:
    (stage,) = plan(tmp_path, GOOD).stages
    assert [stage.accumulation(processes) for processes in (1, 2, 8)] == [8, 4, 1]
    with pytest.raises(UserError, match="not a multiple of micro_batch_size 16 times 3 processes"):
        stage.accumulation(3)


def test_a_wrong_recipe_is_refused_without_torch(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(GOOD.replace("rank", "ranks"))
    script = (
        "import sys\nfrom dualfocus_eval.cli.main import main\n"
        f"status = main(['train', {str(tmp_path / 'wrong.yaml')!r}])\n"
        "assert 'torch' not in sys.modules\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Did you mean rank?" in done.stderr


def test_an_old_name_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("inference: {wording: format1}" + GOOD.replace("rank", "ranks"))
    with pytest.raises(UserError, match="Did you mean rank"):
        main([str(tmp_path / "r.yaml")])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: recipe {tmp_path / 'r.yaml'}, inference: wording is now called prompt_set")
