"""The Python code of README and docs/api.md runs: every block of a page, in order, in one process, offline.

The working directory has what the pages name: ``photo.jpg`` (an embedded scene), the runs ``results`` and ``tuned``
(the second is right once more often), and ``baseline.json``, made from the first.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dualfocus_eval.cli.main import main
from tests.api.conftest import scenes
from tests.gate.gate import asked, documents, gate_run

__all__ = ["scenes"]

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/api.md")
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, scenes: list[dict]) -> Path:  # type: ignore[type-arg]
    Image.open(io.BytesIO(scenes[0]["image"]["bytes"])).convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    right = [asked(number, documents()[number]["answer"]) for number in range(8)]
    wrong = asked(0, "no" if documents()[0]["answer"] == "yes" else "yes")
    gate_run(tmp_path / "results", [wrong, *right[1:]])
    gate_run(tmp_path / "tuned", right)
    baseline = str(tmp_path / "baseline.json")
    assert main(["regress", str(tmp_path / "results"), "--baseline", baseline, "--update"]) == 0
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, place: Path) -> None:
    blocks = _BLOCK.findall((ROOT / page).read_text())
    if page != "README.md":
        assert blocks
    code = "\n".join(f"{block}\nprint('block {number} done')" for number, block in enumerate(blocks))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" done\n") == len(blocks)
