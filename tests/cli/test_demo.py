"""``dualfocus demo``: wrong arguments are refused before anything is loaded."""

from pathlib import Path

import pytest

from dualfocus_eval.cli.main import main


@pytest.mark.parametrize("setting", ["strategy=macro", "score_all=false", "adaptive_nll=0.5"])
def test_settings_that_would_leave_columns_empty_are_refused(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--model_args", f"dtype=float32,{setting}"]) == 2
    assert f"sets {setting.partition('=')[0]} itself" in capsys.readouterr().err


def test_a_page_that_does_not_exist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--markdown", str(tmp_path / "missing.md")]) == 2
    assert "missing.md" in capsys.readouterr().err


def test_a_wrong_model_argument_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output_path", str(tmp_path), "--model_args", "selektion=own"]) == 2
    assert "Did you mean selection?" in capsys.readouterr().err


def test_no_questions_are_not_all_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output_path", str(tmp_path), "--limit", "0"]) == 2
    assert "--limit 0.0 is neither" in capsys.readouterr().err
