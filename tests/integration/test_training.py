"""``dualfocus train`` from a checkpoint, as processes that are killed, or that share the work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.integration.training import TORCHRUN, Training, same_weights
from tests.training.samples import save_base, write_data, write_recipe

SAMPLES, STEPS = 36, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    write_data(folder / "data", SAMPLES)
    base = save_base(folder / "base", "llava")
    write_recipe(folder / "recipe.yaml", base, save_every=2)
    write_recipe(folder / "lora.yaml", base, save_every=1, lora={"rank": 2, "alpha": 4, "dropout": 0.2})
    return folder


@pytest.fixture(scope="module")
def training(folder: Path, environment: dict[str, str]) -> Training:
    return Training(folder, {**environment, "ACCELERATE_USE_CPU": "true"})


@pytest.fixture(scope="module")
def undisturbed(training: Training) -> Training:
    training.finish("recipe", "undisturbed")
    return training


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


def test_two_processes_with_half_the_batch_lose_as_much(undisturbed: Training) -> None:
    undisturbed.finish("recipe", "two", *TORCHRUN)
    both, alone = undisturbed.record("two")["losses"], undisturbed.record("undisturbed")["losses"]
    assert [entry.keys() for entry in both] == [entry.keys() for entry in alone]
    for first, second in zip(both, alone, strict=True):
        assert first == pytest.approx(second, rel=1e-5)
    weights = undisturbed.weights("undisturbed")
    for name, weight in undisturbed.weights("two").items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-4)
