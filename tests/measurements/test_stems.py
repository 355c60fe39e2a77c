"""The page of stems is what the command writes; a sample of folders, since all of them take minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ["cv_bench", "mme_realworld", "mmt", "pope", "realworldqa"]


def rows(text: str) -> list[str]:
    """The table's rows of the sample."""
    return [line for line in text.splitlines() if line.startswith(tuple(f"| {folder} |" for folder in SAMPLE))]


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs/stems.md").read_text(encoding="utf-8")


def test_the_page_is_current(page: str) -> None:
    command = [sys.executable, "-m", "measurements.stems", *SAMPLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert rows(done.stdout) == rows(page)


def test_the_tasks_that_kept_instructions_and_marks_are_clean(page: str) -> None:
    for folder, tasks in (("cv_bench", "`cv_bench`"), ("mme_realworld", "`mmerealworld`"), ("mmt", "`mmt_mi_test`")):
        (row,) = (line for line in rows(page) if line.startswith(f"| {folder} | {tasks}"))
        assert row.endswith("| the question |")
