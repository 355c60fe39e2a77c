"""The gate as CI runs it: the minis answered by the embedded checkpoint, judged by the committed baselines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as Xml

from dualfocus_eval.common.resources import resource_folder
from tests.integration.conftest import BIN, Run

SWAPPED = """
import sys
import dualfocus_eval.method.passes as passes
crop_of = passes.crop_of
passes.crop_of = lambda box, size, **how: crop_of(box, size[::-1], **how)
from dualfocus_eval.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""
"""``dualfocus`` with a planted mistake: the image's width and height change places where the crop is cut."""


def regress(folder: Path, task: str, environment: dict[str, str], *options: str | Path) -> tuple[int, str]:
    baseline = resource_folder("reports") / "baselines" / f"{task}.json"
    assert baseline.is_file(), "make baselines"
    done = subprocess.run(
        [BIN / "dualfocus", "regress", folder, "--baseline", baseline, *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout


def test_the_embedded_checkpoint_answers_as_its_baseline(
    run_here: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run_here("--tasks", "df_pope_mini", "--limit", "100", "--batch_size", "16")
    assert done.status == 0, done.output
    status, printed = regress(tmp_path / "output", "df_pope_mini", environment)
    assert status == 0, printed
    assert "passed: 300 questions" in printed


def test_a_wrong_crop_is_caught(run: Run, tmp_path: Path, environment: dict[str, str]) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(SWAPPED)
    done = run(
        sys.executable, planted, "eval", "--tasks", "df_textvqa_mini", "--limit", "100", "--batch_size", "16"
    )  # fmt: skip
    assert done.status == 0, done.output
    junit = tmp_path / "junit.xml"
    status, printed = regress(tmp_path / "output", "df_textvqa_mini", environment, "--junit", junit)
    assert status == 1, printed
    assert "settings differ" not in printed
    moved = [case for case in Xml.parse(junit).getroot().iter("testcase") if case.find("failure") is not None]
    assert len(moved) >= 5
    assert "score" in {case.get("name") for case in moved}


def test_a_setting_that_moves_answers_is_caught_and_named(
    run_here: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run_here("--tasks", "df_textvqa_mini", "--limit", "100", "--batch_size", "16", "--model_args", "margin=0")
    assert done.status == 0, done.output
    status, printed = regress(tmp_path / "output", "df_textvqa_mini", environment)
    assert status == 1, printed
    said = " ".join(printed.split())
    assert "settings differ: " in said
    assert "margin: 0.0 (baseline: " in said
