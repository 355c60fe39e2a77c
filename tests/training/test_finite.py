"""Training that has diverged stops by name, exports nothing, and leaves its last good checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from dualfocus_eval.cli.main import main as dualfocus
from dualfocus_eval.cli.train import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.export import export
from dualfocus_eval.training.finite import DivergedError, refuse_non_finite_weights
from dualfocus_eval.training.trainer import TuningTrainer
from measurements.random_models import build
from tests.tiny.training.test_stages import RECIPE
from tests.training.samples import save_base, write_data, write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finite")
    write_data(folder / "data")
    save_base(folder / "llava", "llava")
    return folder


def command(folder: Path, out: Path, base: str = "llava", **stage: Any) -> list[str]:
    recipe = write_recipe(out.with_suffix(".yaml"), folder / base, **stage)
    return [str(recipe), "--data", str(folder / "data"), "--out", str(out)]


def test_a_learning_rate_that_diverges_ends_with_the_step_and_without_a_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(folder, tmp_path / "out", learning_rate=1.0e30, save_every=1)
    assert dualfocus(["train", *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "stage 1-tune, step 3: the loss is nan" in line
    assert "Lower learning_rate (1e+30), and delete" in line
    assert not (tmp_path / "out" / "checkpoint").exists()
    assert not (tmp_path / "out" / "1-tune" / "stage.json").exists()
    # The loss of step 2 was finite; that it leaves weights beyond measure shows at step 3 only.
    kept = [path.name for path in (tmp_path / "out" / "1-tune" / "trainer").glob("checkpoint-*")]
    assert kept == ["checkpoint-2"]


def test_training_from_nothing_stops_as_well(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE.replace("learning_rate: 0.001", "learning_rate: 1.0e+30"))
    with pytest.raises(DivergedError, match=r"stage 1-vision, step \d"):
        main([str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")])
    assert not list(tmp_path.rglob("stage.json"))


@pytest.mark.parametrize(("what", "value"), [("the loss", math.inf), ("the gradient norm", math.nan)])
def test_the_run_goes_on_from_before_the_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, value: float
) -> None:
    """As after a fault of the machine: the same recipe reaches the losses of an undisturbed run."""
    step = Trainer.training_step

    def disturbed(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = step(self, model, *args, **kwargs)
        if self.state.global_step < 3:
            return loss
        if what == "the loss":
            return loss * value
        next(weight for weight in model.parameters() if weight.grad is not None).grad.fill_(value)
        return loss

    arguments = command(folder, tmp_path / "out", save_every=1)
    monkeypatch.setattr(Trainer, "training_step", disturbed)
    with pytest.raises(DivergedError, match=f"step 4: {what} is {value}"):
        main(arguments)
    monkeypatch.undo()
    assert main(arguments) == 0
    losses = json.loads((tmp_path / "out" / "1-tune" / "stage.json").read_text())["losses"]
    assert [entry["step"] for entry in losses] == [1, 2, 3, 4, 5]
    assert all(math.isfinite(entry["loss"]) and entry["loss"] > 0 for entry in losses)


def test_weights_that_the_optimiser_broke_are_not_saved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = TuningTrainer._save_checkpoint

    def broken(self: Any, model: Any, trial: Any) -> None:
        if self.state.global_step == 4:
            with torch.no_grad():
                next(weight for weight in model.parameters() if weight.requires_grad).view(-1)[0] = math.inf
        save(self, model, trial)

    monkeypatch.setattr(TuningTrainer, "_save_checkpoint", broken)
    with pytest.raises(DivergedError, match=r"stage 1-tune, step 4: 1 weights have NaN or infinite values, "):
        main(command(folder, tmp_path / "out", save_every=2))
    assert [path.name for path in (tmp_path / "out" / "1-tune" / "trainer").iterdir()] == ["checkpoint-2"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_export_is_whole_numbers_or_nothing(tmp_path: Path, dtype: torch.dtype) -> None:
    """The largest float32 is infinite in bfloat16."""
    model, processor = build("llava")
    with torch.no_grad():
        model.lm_head.weight[0, 0] = math.nan if dtype == torch.float32 else torch.finfo(torch.float32).max
    with pytest.raises(DivergedError, match="lm_head"):
        export(Recipe(path=Path("mine.yaml")), model, processor, tmp_path / "checkpoint", [], dtype)
    assert not list(tmp_path.iterdir())


def test_a_base_with_nan_is_refused(folder: Path, tmp_path: Path) -> None:
    model, processor = build("llava")
    with torch.no_grad():
        model.lm_head.weight[3, 3] = math.nan
    model.save_pretrained(folder / "broken")
    processor.save_pretrained(folder / "broken")
    with pytest.raises(UserError, match=r"broken: lm_head\S* has NaN or infinite numbers"):
        main(command(folder, tmp_path / "out", base="broken"))
    assert not (tmp_path / "out" / "1-tune" / "stage.json").exists()


def test_whole_numbers_and_nothing_are_finite() -> None:
    refuse_non_finite_weights([("a", torch.tensor([1, 2])), ("b", torch.zeros(0)), ("c", torch.ones(2).half())], "x")
