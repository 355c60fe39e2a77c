"""What runs when: `make test-quick`, `make test` and `make test-all` choose by what this file says, and nothing else.

`slow` tests run under `make test-all` only, `quick` ones under `make test-quick` too. Hypothesis tries 100 examples,
300 under HYPOTHESIS_PROFILE=all (`make test-all`) and 100,000 under HYPOTHESIS_PROFILE=prove.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SLOW = (
    # Training as processes that are killed, or that share the work.
    "integration/test_fsdp.py",
    "integration/test_training.py",
    "integration/test_training_page.py",
    "training/test_loss.py::test_measuring_in_processes_gives_the_same",
    # Every command of README, as a process.
    "test_docs_code.py::test_the_commands",
    # A wheel is built and installed.
    "integration/test_wheel.py",
    # Four runs of lmms-eval as processes, on a disk that fills.
    "integration/test_failures.py::test_a_full_disk",
    # `accelerate launch` on CPUs, beside torchrun.
    "integration/test_data_parallel.py::test_accelerate_launch",
    # Variants of architectures that `make test` compares: a mixture of experts, another processor.
    *(
        f"engines/test_exactness.py::{test}[{architecture}"
        for test in ("test_float32_agrees_with_plain_generate", "test_float64_is_identical")
        for architecture in ("glm46v", "glm4v_moe", "qwen3_5_moe")
    ),
    # What is committed is made again: rows of an embedded set, a page about lmms-eval's own tasks; memory, measured.
    "tiny/test_minis.py::test_the_command_regenerates_the_committed_rows[gqa",
    "measurements/test_stems.py::test_the_page_is_current",
    "measurements/test_convert_memory.py",
    # Hundreds of questions each; the gate's verdict on a sound run stays in `make test`.
    "integration/test_gate.py::test_a_wrong_crop",
    "integration/test_gate.py::test_a_setting",
    "integration/test_lmms_eval.py::test_macro_equals_lmms_evals_own_llava[embedded",
    # 80 questions for each architecture.
    "integration/test_every_family.py::test_it_answers",
    # Two to five runs each; the other tables and figures share one.
    *(
        f"paper/test_reproduce.py::{test}"
        for test in ("test_table8", "test_shifted", "test_time", "test_the_region_as", "test_regions_of")
    ),
    # lmms-eval's own class and ours, for each architecture.
    "integration/test_parity.py",
)
"""Beginnings of names (``FILE::TEST[PARAMETER]``), files being below this folder."""
NOT_SLOW = (
    "integration/test_every_family.py::test_it_answers_the_embedded_benchmarks[qwen3_vl]",
    "integration/test_every_family.py::test_it_answers_the_embedded_benchmarks[internvl]",
    "integration/test_parity.py::test_macro_gives_the_answers_of_lmms_evals_class[qwen3_vl]",
)
"""What of these runs under `make test` all the same."""

QUICK_FOLDERS = (
    "analysis",
    "common",
    "curation",
    "datasets",
    "families",
    "gate",
    "method",
    "report",
    "tasks",
    "traces",
)
NOT_QUICK = (
    "common/test_output.py",
    "datasets/test_prepare.py::test_a_kill_at_any_moment",
    "method/test_linear.py",
    "report/test_report.py",
    "traces/test_store.py::test_every_answer_that_was_put_survives_kill_9",
)
"""What in these folders starts a process, loads a model, draws whole reports or takes long texts."""

ROOT = Path(__file__).parent

for profile, examples in (("default", 100), ("all", 300)):
    settings.register_profile(profile, max_examples=examples, deadline=None)
settings.register_profile(
    "prove", max_examples=100_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Other folders are not even imported for the quick tests."""
    if config.getoption("-m") == "quick" and collection_path.is_relative_to(ROOT) and collection_path != ROOT:
        return collection_path.relative_to(ROOT).parts[0] not in QUICK_FOLDERS or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests, those that take longest first, so that no process works alone at the end."""
    for item in items:
        if not item.path.is_relative_to(ROOT):
            continue
        name = f"{item.path.relative_to(ROOT).as_posix()}::{item.name}"
        if name.startswith(SLOW) and name not in NOT_SLOW:
            item.add_marker("slow")
        elif name.startswith(QUICK_FOLDERS) and not name.startswith(NOT_QUICK):
            item.add_marker("quick")
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaVA with random weights, on disk; whoever wants to change it copies it."""
    from tests.random_checkpoints import save_random_checkpoint

    return save_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny-llava")


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The embedded checkpoint."""
    from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder

    return resource_folder("models") / EMBEDDED_CHECKPOINT


@pytest.fixture(scope="session")
def served(embedded: Path) -> Iterator[str]:
    """Address of a server of the embedded checkpoint, named `tests.server_double.NAME`."""
    from tests.server_double import ServerDouble, serving

    with serving(ServerDouble(embedded).app) as address:
        yield address


@pytest.fixture(scope="session")
def other_checkpoint(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded checkpoint with other weights, as if it was trained on: its name, its processor."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("other") / embedded.name
    shutil.copytree(embedded, folder)
    weights = load_file(folder / "model.safetensors")
    weights["language_model.model.norm.weight"] *= 1.3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
