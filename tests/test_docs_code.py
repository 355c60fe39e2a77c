"""The code of README and docs/api.md runs offline: Python as every block of a page, in order, in one process; commands
with the embedded checkpoint and few questions.

The working directory has what the pages name: the images ``photo.jpg`` and ``other.jpg`` (an embedded scene), the runs
``results`` and ``tuned`` (the second is right once more often), and ``baseline.json``, made from the first.
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
_COMMANDS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STAND_INS = (
    ("pretrained=Qwen/Qwen2.5-VL-7B-Instruct,dtype=bfloat16", "recipe=dualfocus-tiny"),
    ("recipe=qwen3-vl-8b-base,dtype=bfloat16", "recipe=dualfocus-tiny"),
    ("--tasks df_pope ", "--tasks df_pope_mini --limit 2 "),
    ("--tasks df_pope_mini\n", "--tasks df_pope_mini --limit 2\n"),
    ("--limit 20", "--limit 1"),
    ("pip install .\n", "true\n"),  # tests/integration/test_wheel.py installs
)
"""What needs the network or hours, and what is run in its place."""


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


def test_the_commands_of_the_pages_run(place: Path) -> None:
    text = "".join(block for page in PAGES for block in _COMMANDS.findall((ROOT / page).read_text()))
    for written, run in STAND_INS:
        assert written in text
        text = text.replace(written, run)
    (place / "other.jpg").write_bytes((place / "photo.jpg").read_bytes())
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(place / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", text], cwd=place, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Image.open(place / "answer.png").format == "PNG"
    assert (place / "report" / "index.html").is_file()
