"""``dualfocus reproduce`` with the embedded checkpoint: every name ends with its table, and runs are shared."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lmms_eval.tasks
import pytest

import dualfocus_eval.cli.eval
from dualfocus_eval.cli.main import main
from tests.random_detectors import DETECTORS, save_random_detector

FILES = {
    "table1": "tables/main.csv",
    "table2": "tables/main.csv",
    "table3": "tables/strategies.csv",
    "table4": "tables/pope.csv",
    "table9": "tables/adaptive.csv",
    "figure3": "figures/perplexity.svg",
    "figure4": "figures/categories_df_seed_img_mini.svg",
    "figure5": "tables/questions.csv",
}
"""What the experiments of one run leave."""


@dataclass
class Reproducer:
    """Runs the command with one folder, and counts the evaluations."""

    out: Path
    commands: list[str] = field(default_factory=list)

    def __call__(self, name: str, *arguments: str, limit: int = 4) -> int:
        self.commands.clear()
        return main(["reproduce", name, "--out", str(self.out), "--limit", str(limit), *arguments])

    def rows(self, name: str, table: str) -> list[dict[str, str]]:
        with (self.out / name / "tables" / f"{table}.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def reproduce(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reproducer]:
    """In a working folder of its own, without lmms-eval's own thousands of tasks."""
    folder = tmp_path_factory.mktemp("reproduce")
    found = Reproducer(folder / "out")
    evaluate = dualfocus_eval.cli.eval.main

    def counted(arguments: list[str]) -> int:
        found.commands.append(" ".join(arguments))
        return evaluate(arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patched.setattr(lmms_eval.tasks, "__file__", str(folder / "none" / "__init__.py"))
        patched.setattr(dualfocus_eval.cli.eval, "main", counted)
        yield found


@pytest.mark.parametrize("name", FILES)
def test_one_run_serves_most_tables_and_figures(
    reproduce: Reproducer, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = not (reproduce.out / "runs").exists()
    assert reproduce(name) == 0
    assert len(reproduce.commands) == first
    assert (reproduce.out / name / FILES[name]).stat().st_size > 0
    assert (reproduce.out / name / "index.html").is_file()
    printed = capsys.readouterr()
    assert f"{name[:5].title()}" in printed.out
    assert "small embedded sets, whose numbers cannot be compared" in printed.out.replace("\n", " ")
    assert ("finished before" in printed.err) != first


def test_table3_has_the_tasks_of_the_paper(reproduce: Reproducer) -> None:
    assert reproduce("table3") == 0
    assert [row["task"] for row in reproduce.rows("table3", "strategies")] == ["df_seed_img_mini", "df_textvqa_mini"]


def test_table8_joins_two_prompts_and_two_models(reproduce: Reproducer, other_checkpoint: Path) -> None:
    assert reproduce("table8", "--other_model_args", f"pretrained={other_checkpoint}") == 0
    assert len(reproduce.commands) == 4
    for pair in ("prompts", "other_prompts", "models"):
        (row,) = reproduce.rows("table8", f"{pair}_scores")
        assert row["task"] == "df_mmbench_en_mini"
        assert float(row["oracle"]) >= max(float(row[name]) for name in ("A", "B", "joined"))
    (own,) = reproduce.rows("table8", "two_passes")
    (joined,) = reproduce.rows("table8", "prompts_scores")
    assert joined["A"] == own["macro"]
    assert reproduce("table8") == 0
    assert reproduce.commands == []


def test_table10_waits_for_its_training(
    reproduce: Reproducer, other_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce("table10") == 1
    command = "dualfocus train dualfocus-tiny-without-vg (94,000 samples, 1.9 hours on 2 CPU cores)"
    assert f"not trained yet: {command}" in capsys.readouterr().err
    assert next(row["df_seed_img_mini"] for row in reproduce.rows("table10", "rows")) == "not trained yet"
    shutil.copytree(other_checkpoint, Path("runs/dualfocus-tiny-without-vg/checkpoint"))
    assert reproduce("table10") == 0
    (command,) = reproduce.commands
    assert "recipe=dualfocus-tiny-without-vg,strategy=macro" in command
    scores = [float(row["df_seed_img_mini"]) for row in reproduce.rows("table10", "rows")]
    assert len(scores) == 3
    assert {path.stem for path in (reproduce.out / "table10" / "tables").glob("differences_*.csv")} == {
        "differences_1", "differences_2",
    }  # fmt: skip


def test_a_run_of_another_checkpoint_is_made_again(
    reproduce: Reproducer, other_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / other_checkpoint.name
    shutil.copytree(other_checkpoint, folder)
    arguments = ("--tasks", "df_pope_mini_random", "--model_args", f"pretrained={folder}")
    assert reproduce("table4", *arguments) == 0
    assert len(reproduce.commands) == 1
    assert reproduce("table4", *arguments) == 0
    assert reproduce.commands == []
    (folder / "generation_config.json").write_text('{"max_length": 77}')
    assert reproduce("table4", *arguments) == 0
    assert len(reproduce.commands) == 1
    (folder / "dualfocus.json").write_text('{"inference": {"box_convention": "unit", "margin": 40}}')
    assert reproduce("table4", *arguments) == 0
    assert len(reproduce.commands) == 1


def test_a_wrong_argument_ends_with_the_status_of_the_run(reproduce: Reproducer) -> None:
    assert reproduce("table4", "--model_args", "selektion=own") == 2
    assert reproduce("table4", "--model_args", "dtype") == 2


def test_shifted_boxes(reproduce: Reproducer) -> None:
    assert reproduce("table5", "--tasks", "df_textvqa_mini") == 0
    assert len(reproduce.commands) == 4
    labels = [row[""] for row in reproduce.rows("table5", "rows")]
    assert labels == ["two passes", "macro", *(f"shifted by {pixels} pixels" for pixels in (10, 25, 150))]


def test_time_of_one_pass_and_of_two(reproduce: Reproducer) -> None:
    assert reproduce("table7") == 0
    assert "strategy=macro --batch_size" in reproduce.commands[-1]
    alone, two = reproduce.rows("table7", "single_pass")
    assert alone["questions"] == two["questions"]
    assert float(alone["images encoded"]) < float(two["images encoded"])
    assert float(alone["time / first row"]) == 1
    assert float(two["decode steps"]) > float(alone["decode steps"])


def test_the_region_as_one_more_patch(reproduce: Reproducer, llava_next: Path) -> None:
    assert reproduce("table6", "--other_model_args", f"pretrained={llava_next}") == 0
    labels = [row[""] for row in reproduce.rows("table6", "rows")]
    assert labels == ["high resolution", "two passes", "high resolution, region as one more patch"]


@pytest.fixture
def llava_next(tmp_path: Path) -> Path:
    from measurements.random_models import build

    model, processor = build("llava_next")
    model.save_pretrained(tmp_path / "llava-next")
    processor.save_pretrained(tmp_path / "llava-next")
    return tmp_path / "llava-next"


@pytest.mark.parametrize("model_type", DETECTORS)
def test_regions_of_a_detector(reproduce: Reproducer, model_type: str, tmp_path: Path) -> None:
    detector = save_random_detector(tmp_path / "detector", model_type)
    assert reproduce("table11", "--detector", str(detector)) == 0
    labels = [row[""] for row in reproduce.rows("table11", "rows")]
    assert labels == ["macro", "two passes, the model's boxes", "two passes, detector"]
    save_random_detector(detector, model_type, seed=1)
    assert reproduce("table11", "--detector", str(detector)) == 0
    (command,) = reproduce.commands
    assert "grounding=detector" in command
