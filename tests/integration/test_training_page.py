"""The way of docs/training.md from an empty disk to a score table on one CPU, as written, with fewer scenes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_from_annotations_to_scores_on_one_cpu(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    block = re.search(r"<!-- one cpu -->\n```bash\n(.*?)```", page, re.DOTALL)
    assert block
    script = block[1].replace("--count 30", "--count 2")
    script = script.replace("--tasks df_scenes_mini", "--tasks df_scenes_mini --limit 3")
    called = f'set -e\ndualfocus() {{ "{sys.executable}" -m dualfocus_eval "$@"; }}\n{script}'
    done = subprocess.run(
        ["bash", "-c", called],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"FLOPs +\d\.\d\de\+\d\d", done.stdout)
    checkpoint = tmp_path / "runs" / "mine" / "checkpoint"
    assert json.loads((checkpoint / "dualfocus.json").read_text())["provenance"]["recipe"] == "mine.yaml"
    (results,) = (tmp_path / "results").rglob("*results.json")
    assert "df_scenes_mini" in json.loads(results.read_text())["results"]
