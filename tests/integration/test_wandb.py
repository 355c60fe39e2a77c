"""``--wandb_args``: the table of answers, in W&B's own files of a run that stays on this machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.conftest import BIN, Run


def test_the_table_of_answers(run: Run, tmp_path: Path) -> None:
    env = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    ran = run("dualfocus", "eval", "--tasks", "df_scenes_mini", "--limit", "3", "--wandb_args", "project=test", env=env)
    assert ran.status == 0, ran.output
    (media,) = tmp_path.glob("wandb/offline-run-*/files/media")
    (file,) = media.glob("table/dualfocus/answers_*.table.json")
    table = json.loads(file.read_text())
    rows: list[dict[str, Any]] = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["key"] for row in rows] == [f"df_scenes_mini/{number}" for number in range(3)]
    for row in rows:
        sample = ran.samples["df_scenes_mini", int(row["key"].rpartition("/")[2])]["dualfocus"]
        assert (row["macro"], row["micro"], row["selected"]) == (sample["macro"], sample["micro"], sample["selected"])
        assert (row["image"], row["crop"]) == ("Image", "Image")  # they are in the table's artifact


def test_without_samples_it_is_said_that_there_is_none(tmp_path: Path) -> None:
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [BIN / "dualfocus", "eval", "--tasks", "df_scenes_mini", "--limit", "1", "--wandb_args", "project=test"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "W&B has no table of answers: it needs --output_path and --log_samples" in done.stderr
