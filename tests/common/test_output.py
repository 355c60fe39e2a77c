"""Standard output that is closed, read no further, full, or too narrow: the work is done, the status documented."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
import dualfocus_eval.cli.main as cli
import dualfocus_eval.cli.tasks
def work(argv):
    for number in range(2000):
        print("score", number, "\\N{UPWARDS ARROW}", "half \\ud800 of a pair")
    sys.stdout.flush()
    open(argv[0], "w").write("done")
    EXTRA
    return STATUS
dualfocus_eval.cli.tasks.main = work
sys.exit(cli.main(["tasks", sys.argv[1]]))
"""


def run(folder: Path, shell: str, status: int = 0, extra: str = "pass", **env: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of the program that prints 2,000 lines, then writes a file; ``{}`` in ``shell`` is it."""
    program = folder / "program.py"
    program.write_text(PROGRAM.replace("STATUS", str(status)).replace("EXTRA", extra))
    command = f"{sys.executable} {program} {folder}/work"
    return subprocess.run(
        ["bash", "-c", shell.replace("{}", command)],
        capture_output=True, text=True, env={**os.environ, **env}, timeout=600,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shell", "work", "status", "words"),
    [
        ("{} | head -1; exit ${PIPESTATUS[0]}", 0, 0, "the reader of standard output has closed it"),
        ("{} | head -1; exit ${PIPESTATUS[0]}", 2, 2, "the reader of standard output has closed it"),
        ("{} 2>&1 | head -1; exit ${PIPESTATUS[0]}", 0, 0, ""),
        ("{} >&-", 0, 0, "standard output is closed"),
        ("{} >&- 2>&-", 1, 1, ""),
        ("{} > /dev/full", 0, 3, "standard output cannot be written (No space left on device)"),
        ("{} > /dev/full", 1, 3, "standard output cannot be written (No space left on device)"),
        ("{} > /dev/null", 0, 0, ""),
    ],
)
def test_output_that_cannot_be_shown_costs_no_work(
    tmp_path: Path, shell: str, work: int, status: int, words: str
) -> None:
    done = run(tmp_path, shell, work)
    assert (tmp_path / "work").read_text() == "done"
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == bool(words), done.stderr
    assert words in done.stderr


def test_characters_that_the_encoding_lacks_are_shown_as_codes(tmp_path: Path) -> None:
    done = run(tmp_path, "{}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == r"score 0 \u2191 half \ud800 of a pair"


def test_a_crash_has_a_status_of_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, "{} > /dev/null", extra="raise RuntimeError('first line\\nsecond')")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "dualfocus tasks: crashed: RuntimeError: first line (please report this with the lines above)"
    )


def test_a_file_that_is_opened_later_does_not_take_the_place_of_closed_output(tmp_path: Path) -> None:
    done = run(tmp_path, "{} >&-", extra="os.write(1, b'stray')")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work").read_text() == "done"
