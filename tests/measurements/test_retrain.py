"""The comparison of a retrained checkpoint with the committed one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from dualfocus_eval.analysis.runs import Run
from measurements import retrain
from tests.analysis.runs import answered, run_of, scene


@pytest.fixture
def again(tmp_path: Path) -> Path:
    return Path(shutil.copytree(retrain.COMMITTED, tmp_path / "again"))


def compared(again: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["retrain", "--checkpoint", str(again)])
    return retrain.main()


def test_the_same_weights_need_no_answers(
    again: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(again, monkeypatch) == 0
    assert "bit for bit" in capsys.readouterr().out


@pytest.mark.parametrize(("right", "status"), [(19, 0), (18, 1)])
def test_other_weights_must_score_alike(
    right: int, status: int, again: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The committed ones answer all of 20 questions; one of them is 5 points."""
    weights = load_file(again / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, again / "model.safetensors")

    def answers(checkpoint: Path, folder: Path) -> Run:
        known = 20 if checkpoint == retrain.COMMITTED else right
        texts = ["red"] * known + ["blue"] * (20 - known)
        return run_of(
            [answered("df_scenes_mini", scene(n, "red"), text, text, doc_id=n) for n, text in enumerate(texts)]
        )

    monkeypatch.setattr(retrain, "_answered", answers)
    assert compared(again, monkeypatch) == status
    said = capsys.readouterr().out
    assert f"| df_scenes_mini | 20 | 100.0 | {5 * right:.1f} |" in said
    assert ("DOES NOT HOLD" in said) == bool(status)


def test_no_checkpoint_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        compared(tmp_path, monkeypatch)
    assert ended.value.code == 2
