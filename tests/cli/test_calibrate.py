"""``dualfocus calibrate`` and ``dualfocus report --calibration``: exit status, and what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualfocus_eval.cli.main import main
from dualfocus_eval.cli.sweep import _one_rule
from dualfocus_eval.method.selection.calibration import load_calibration
from tests.analysis.runs import documents_of
from tests.analysis.test_calibrating import questions, written


def test_fit_and_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit, test, file = questions(), questions(80, images=20, begin=1000), tmp_path / "new" / "choice.json"
    with documents_of(fit):
        assert main(["calibrate", str(written(tmp_path / "fit", fit)), "--out", str(file)]) == 0
    printed = capsys.readouterr().out
    found = load_calibration(file)
    assert f"{found.name}: {file}; use it with --model_args selection={file}" in printed.replace("\n", "")
    assert "and the oracle: 100% (100% to 100%)" in printed
    assert "each image's questions are judged by a fit without it (5 folds)" in " ".join(printed.split())
    report = ["report", str(written(tmp_path / "test", test)), "--out", str(tmp_path / "report")]
    with documents_of(test):
        assert main([*report, "--calibration", str(file)]) == 0
    table = json.loads((tmp_path / "report" / "tables" / "calibrated_choice.json").read_text())
    assert "gap closed" in json.dumps(table)
    assert "Calibrated choice" in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("out", "wanted"),
    [
        ("choice.txt", "selection=FILE knows a calibration by its ending: name it choice.json"),
        ("folder.json", "is a folder; name a file"),
        ("file/choice.json", "cannot be written"),
    ],
)
def test_a_file_that_could_not_be_used_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, wanted: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    assert main(["calibrate", str(tmp_path / "no run"), "--out", str(tmp_path / out)]) == 2
    assert wanted in capsys.readouterr().err


def test_no_run_and_no_calibration_are_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(tmp_path / "no run"), "--out", str(tmp_path / "c.json")]) == 2
    assert "does not exist; name the --output_path of a run" in capsys.readouterr().err
    arguments = ["report", str(tmp_path), "--out", str(tmp_path / "report"), "--calibration", str(tmp_path / "c.json")]
    assert main(arguments) == 2
    assert "c.json does not exist; `dualfocus calibrate RUN --out FILE` makes one" in capsys.readouterr().err


def test_one_rule_decides_in_every_setting_of_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    assert _one_rule({}) == "selection=micro_context"
    assert "sweep: selection=micro_context in every setting: the checkpoint's own" in capsys.readouterr().err
    assert _one_rule({"selection": "released"}) == ""
