"""``dualfocus train`` from a checkpoint, as processes that are killed, or that share the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.conftest import BIN
from tests.train.samples import save_base, write_data, write_recipe

SAMPLES, STEPS = 36, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    write_data(folder / "data", SAMPLES)
    base = save_base(folder / "base", "llava")
    write_recipe(folder / "recipe.yaml", base, save_every=2)
    write_recipe(folder / "lora.yaml", base, save_every=1, lora={"rank": 2, "alpha": 4, "dropout": 0.2})
    return folder


class Training:
    """Starts training runs in ``folder`` and reads what they leave."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def start(self, recipe: str, out: str, *launcher: str, **extra: str) -> subprocess.Popen[str]:
        command = [*(launcher or (str(BIN / "python"), "-m")), "dualfocus_eval", "train", f"{recipe}.yaml"]
        return subprocess.Popen(
            [*command, "--data", "data", "--out", out],
            cwd=self.folder,
            env={**self.environment, **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, recipe: str, out: str, *launcher: str, **extra: str) -> str:
        process = self.start(recipe, out, *launcher, **extra)
        output, _ = process.communicate(timeout=1800)
        assert process.returncode == 0, output
        return output

    def kill_when(self, recipe: str, out: str, moment: Callable[[], bool]) -> None:
        """The moment is looked at while the process stands still, so that it is that moment in which it dies."""
        process = self.start(recipe, out)
        try:
            while process.poll() is None:
                if moment():
                    os.killpg(process.pid, signal.SIGSTOP)
                    if moment():
                        break
                    os.killpg(process.pid, signal.SIGCONT)
                time.sleep(0.0005)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output

    def record(self, out: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / out / "1-tune" / "stage.json").read_text())
        return record

    def weights(self, out: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / out / "1-tune" / "model.safetensors")

    def checkpoints(self, out: str) -> dict[str, bool]:
        """Names, and whether they are complete."""
        paths = (self.folder / out / "1-tune" / "trainer").glob("checkpoint-*")
        return {path.name: (path / "complete").exists() for path in paths}


@pytest.fixture(scope="module")
def training(folder: Path, environment: dict[str, str]) -> Training:
    return Training(folder, {**environment, "ACCELERATE_USE_CPU": "true"})


@pytest.fixture(scope="module")
def undisturbed(training: Training) -> Training:
    training.finish("recipe", "undisturbed")
    return training


def same_weights(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_killed_twice_it_ends_as_if_never(undisturbed: Training) -> None:
    """Once between two checkpoints, once while one is being written: losses and weights are equal bit by bit."""
    begun = undisturbed.folder / "killed" / "1-tune"

    def under_way() -> bool:
        return undisturbed.checkpoints("killed").get("checkpoint-2", False)

    def writing() -> bool:
        found = undisturbed.checkpoints("killed")
        return found.get("checkpoint-2", False) and not found.get("checkpoint-4", True)

    undisturbed.kill_when("recipe", "killed", under_way)
    assert not (begun / "stage.json").exists()
    undisturbed.kill_when("recipe", "killed", writing)
    output = undisturbed.finish("recipe", "killed")
    assert "checkpoint-4 is passed over: its writing was broken off" in output

    killed, whole = undisturbed.record("killed"), undisturbed.record("undisturbed")
    assert killed["losses"] == whole["losses"]
    assert len(whole["losses"]) == whole["steps"] == STEPS
    assert same_weights(undisturbed.weights("killed"), undisturbed.weights("undisturbed"))


def test_adapters_with_dropout_go_on_too(training: Training) -> None:
    """The state of the random numbers is part of a checkpoint."""
    training.finish("lora", "lora-undisturbed")
    training.kill_when("lora", "lora", lambda: training.checkpoints("lora").get("checkpoint-3", False))
    training.finish("lora", "lora")
    assert training.record("lora")["losses"] == training.record("lora-undisturbed")["losses"]
    assert same_weights(training.weights("lora"), training.weights("lora-undisturbed"))


TORCHRUN = (str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m")
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
"""What `accelerate launch` makes of models/accelerate/fsdp.yaml; on CPU that command itself wants MPI."""


@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "fsdp"])
def test_two_processes_with_half_the_batch_lose_as_much(undisturbed: Training, sharded: bool) -> None:
    out = f"two-{sharded}"
    undisturbed.finish("recipe", out, *TORCHRUN, **(FSDP if sharded else {}))
    both, alone = undisturbed.record(out)["losses"], undisturbed.record("undisturbed")["losses"]
    assert [entry.keys() for entry in both] == [entry.keys() for entry in alone]
    for first, second in zip(both, alone, strict=True):
        assert first == pytest.approx(second, rel=1e-5)
    weights = undisturbed.weights("undisturbed")
    for name, weight in undisturbed.weights(out).items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-4)
