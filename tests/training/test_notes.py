"""What a run notes of itself: whole or not at all, named where it is damaged, and compared before training goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.training.manifest import claim, note_start, refuse_other_base
from dualfocus_eval.training.notes import base_digest, finish_stage, read_stage, result_digest, write_note
from dualfocus_eval.training.rejections import note_rejection, rejected_places, rejections_file

RECORD = {"stage": "tune", "steps": 1, "samples": 2, "seconds": 3, "losses": []}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A finished stage."""
    folder = tmp_path / "1-tune"
    claim(folder, "tune", {"seed": 1, "freeze": ("a",)})
    note_start(folder, 1, "digest")
    (folder / "model.safetensors").write_bytes(b"weights")
    finish_stage(folder, RECORD)
    return folder


@pytest.mark.parametrize("content", ["", '{"seed": 1', "[", "null", "[1]", "7", "\x00\x00", "[" * 100_000])
@pytest.mark.parametrize("name", ["settings.json", "stage.json", "starts.json"])
def test_a_damaged_note_is_named_with_the_fix(stage: Path, name: str, content: str) -> None:
    def go_on() -> None:
        read_stage(stage)
        claim(stage, "tune", {"seed": 1, "freeze": ["a"]})
        refuse_other_base(stage, "base", "digest")

    (stage / name).write_text("{}" if name == "starts.json" and content == "[1]" else content)
    with pytest.raises(UserError, match=rf"{name} is empty, cut or damaged: delete .*1-tune to train that stage again"):
        go_on()


def test_what_was_noted_may_go_on(stage: Path) -> None:
    claim(stage, "tune", {"seed": 1, "freeze": ["a"]})
    refuse_other_base(stage, "base", "digest")
    assert read_stage(stage)["steps"] == 1
    assert result_digest(stage) == read_stage(stage)["result"]
    (stage / "trainer").mkdir()  # what is no part of the checkpoint may change
    result_digest(stage)


def test_other_settings_and_another_base_are_refused(stage: Path) -> None:
    with pytest.raises(UserError, match=r"holds stage tune under other settings or data \(seed\)"):
        claim(stage, "tune", {"seed": 2, "freeze": ["a"]})
    with pytest.raises(UserError, match=r"some/base has changed since the stage in .*1-tune was begun"):
        refuse_other_base(stage, "some/base", "other")


@pytest.mark.parametrize("content", [b"weight", b"Weights", b""])
def test_a_result_that_was_changed_or_cut_is_named(stage: Path, content: bytes) -> None:
    (stage / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"1-tune: its files have been changed or cut since the stage ended"):
        result_digest(stage)


def test_a_note_is_replaced_at_once(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError("disk full")

    before = (stage / "stage.json").read_bytes()
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="disk full"):
        write_note(stage / "stage.json", {})
    assert (stage / "stage.json").read_bytes() == before


def test_a_base_on_the_hub_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--owner--name"
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "snapshots" / COMMIT / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert base_digest("owner/name") == COMMIT


def test_a_line_that_a_kill_broke_off_costs_no_other(tmp_path: Path) -> None:
    file = rejections_file(tmp_path, 0)
    note_rejection(file, Rejected("a", "x"))
    file.write_bytes(file.read_bytes() + b'\n{"where": "b", "rea\xc3')
    note_rejection(file, Rejected("b", "x"))
    note_rejection(rejections_file(tmp_path, 1), Rejected("a", "\udcff"))
    assert rejected_places(tmp_path) == ["a", "b"]


def test_notes_are_plain_json(stage: Path) -> None:
    assert json.loads((stage / "starts.json").read_text())[0]["base"] == "digest"
