"""The benchmarks as a user runs them: all minis under two models, and a prepared release, without network."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.tiny.scenes.layout import compose
from dualfocus_eval.tiny.scenes.render import paint
from tests.integration.conftest import Run

MINIS = sorted(path.stem for path in resource_folder("tasks").rglob("df_*mini*.yaml") if path.stem != "df_mini")
GROUPS = {"df_mini", "df_pope_mini"}


@pytest.mark.parametrize("model", ["dualfocus", "llava_hf"])
def test_every_mini_runs_with_no_flag_and_no_network(run_here: Run, checkpoint: Path, model: str) -> None:
    arguments = f"pretrained={checkpoint},device=cpu" + (",device_map=cpu" if model == "llava_hf" else "")
    done = run_here("--model", model, "--model_args", arguments, "--tasks", "df_mini", "--limit", "3")
    assert done.status == 0, done.output
    assert set(done.results["results"]) == {*MINIS, *GROUPS}, done.output
    assert len(done.answers) == 3 * len(set(MINIS) - GROUPS)
    for name in set(MINIS) - GROUPS:
        assert 0 <= done.scores[name]["score,none"] <= 1


def test_a_prepared_release_is_evaluated_offline(
    run_here: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, root = tmp_path / "release", tmp_path / "benchmarks"
    source.mkdir()
    for number in range(2):
        paint(compose(5, number)).save(source / f"COCO_{number}.jpg")
    for split in ("random", "popular", "adversarial"):
        lines = [
            {"question_id": number, "image": f"COCO_{number % 2}.jpg", "text": f"Is there {what}?", "label": "yes"}
            for number, what in enumerate(("a ball", "a box", "a tree", "a mug"), 1)
        ]
        (source / f"coco_pope_{split}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["data", "prepare", "pope", "--source", str(source), "--out", str(root)]) == 0
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    done = run_here("--model_args", f"pretrained={checkpoint}", "--tasks", "df_pope", "--batch_size", "4")
    assert done.status == 0, done.output
    assert set(done.results["results"]) == {
        "df_pope",
        *(f"df_pope_{split}" for split in ("random", "popular", "adversarial")),
    }
    assert len(done.answers) == 12
    assert all(done.answers.values())
    assert done.record["summary"]["images_encoded"] >= 2
    assert done.record["summary"]["images_encoded"] <= 2 + done.record["summary"]["both_candidates"]


def test_a_set_that_is_missing_is_one_clear_line(
    run_here: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path))
    done = run_here("--model_args", f"pretrained={checkpoint}", "--tasks", "df_paper")
    assert done.status == 2
    (line,) = [line for line in done.output.splitlines() if line.startswith("dualfocus eval: error")]
    assert re.search(r"no finished \S+\. Make it with: dualfocus data prepare \S+ --source DIR", line)
