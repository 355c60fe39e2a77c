"""The built wheel runs outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dualfocus_eval.common.resources import resource_folder
from tests.integration.conftest import read_output

CHECKOUT = Path(__file__).resolve().parents[2]


def succeed(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    succeed(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def evaluate(python: Path, folder: Path, environment: dict[str, str], *more: str) -> None:
    """The command of the issue, started outside the checkout, with what the environment of ``python`` brings."""
    private = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    place = succeed(python, "-c", "import dualfocus_eval; print(dualfocus_eval.__file__)", cwd=folder, env=private)
    assert Path(place.strip()).is_relative_to(python.parents[1])
    tasks = succeed(python, "-m", "dualfocus_eval", "tasks", "--path", cwd=folder, env=private).strip()
    assert Path(tasks).is_relative_to(python.parents[1])
    models = succeed(python, "-m", "dualfocus_eval", "models", cwd=folder, env=private).strip()
    assert Path(models).is_relative_to(python.parents[1])
    assert (Path(models) / "accelerate" / "fsdp.yaml").is_file()
    succeed(
        python, "-m", "lmms_eval", "--model", "dualfocus", "--tasks", "df_pope_mini", "--batch_size", "4",
        "--output_path", folder / "output", "--log_samples", *more, cwd=folder, env=private,
    )  # fmt: skip
    results, samples = read_output(folder / "output")
    assert "df_pope_mini" in results["results"]
    assert samples


def embedded_checkpoint_or(checkpoint: Path) -> list[str]:
    embedded = resource_folder("models") / "dualfocus-tiny"
    return [] if embedded.is_dir() else ["--model_args", f"pretrained={checkpoint}"]


def test_the_wheel_runs_beside_installed_dependencies(
    wheel: Path, environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    succeed(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    succeed(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # A path file's folder is searched after this environment's own, and path files inside it are not followed.
    purelib = Path(
        succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    evaluate(python, tmp_path, environment, *embedded_checkpoint_or(checkpoint), "--limit", "4")


@pytest.mark.install
def test_a_clean_environment_gets_releases_that_work_together(
    wheel: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """What `pip install` gives a user today, not what constraints.txt says: the newest of everything within bounds."""
    succeed(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    bin_folder = tmp_path / "venv" / "bin"
    succeed(bin_folder / "pip", "install", "--quiet", wheel, cwd=tmp_path, env=dict(os.environ))
    print(succeed(bin_folder / "pip", "list", "--format", "freeze", cwd=tmp_path))
    private = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    succeed(
        bin_folder / "lmms-eval", "--model", "dualfocus", "--tasks", "df_pope_mini", "--limit", "8",
        "--output_path", tmp_path / "short", cwd=tmp_path, env=private,
    )  # fmt: skip
    results, _ = read_output(tmp_path / "short")
    assert results["results"]["df_pope_mini"]["accuracy,none"] > 0.8
    # Other versions of packages are another environment to the gate, not another checkpoint.
    succeed(
        bin_folder / "dualfocus", "eval", "--tasks", "df_pope_mini", "--limit", "100", "--batch_size", "16",
        "--output_path", tmp_path / "run", "--log_samples", cwd=tmp_path, env=private,
    )  # fmt: skip
    succeed(bin_folder / "dualfocus", "regress", tmp_path / "run", "--baseline", "df_pope_mini", cwd=tmp_path)
    # A package that extends this one, as docs/extending.md has it.
    extension = CHECKOUT / "tests" / "extension"
    succeed(bin_folder / "pip", "install", "--quiet", "--no-deps", extension, cwd=tmp_path, env=dict(os.environ))
    succeed(
        bin_folder / "lmms-eval", "--model", "dualfocus", "--tasks", "df_pope_mini", "--limit", "8", "--model_args",
        "grounding=center,selection=total_nll", "--output_path", tmp_path / "extended", "--log_samples", cwd=tmp_path,
        env=private,
    )  # fmt: skip
    succeed(bin_folder / "dualfocus", "report", tmp_path / "extended", "--out", tmp_path / "report", cwd=tmp_path)
    assert "total_nll * |" in (tmp_path / "report" / "report.md").read_text()
