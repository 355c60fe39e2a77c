"""The index of tasks: runs that are made together share one."""

from __future__ import annotations

from pathlib import Path

from lmms_eval.tasks import TaskManager

from dualfocus_eval.harness.task_index import index_our_tasks, tasks_indexed_once


def tasks(folder: Path) -> list[str]:
    """The names that a run of the folder's tasks knows."""
    names: list[str] = TaskManager("ERROR", str(folder), include_defaults=False, model_name="dualfocus").all_tasks
    return names


def test_within_the_block_files_are_read_once(tmp_path: Path) -> None:
    index_our_tasks()
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "one.yaml").write_text("task: one\ndataset_path: x\n")
    with tasks_indexed_once():
        assert tasks(tmp_path) == ["one"]
        (other / "two.yaml").write_text("task: two\ndataset_path: x\n")
        assert tasks(tmp_path) == ["one"]
        assert tasks(other) == ["two"]
    assert tasks(tmp_path) == ["one", "two"]
