"""Texts scored by lmms-eval's own task objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.scoring import included_folders, load_tasks, main_metric, own_scoring
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.report.sections.overview import overview_section
from dualfocus_eval.report.sections.strategies import strategy_section
from tests.analysis.runs import write_run
from tests.gate.gate import TASK, asked

MINE = "my_pope"


def test_an_answer_that_cannot_be_scored_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, faults = load_tasks(["df_pope_mini_random"])
    task = tasks["df_pope_mini_random"]
    asked = []

    def spoilt(doc: Any, results: list[str]) -> Any:
        asked.append(results)
        raise KeyError("answer")

    score = own_scoring(task)
    assert not faults
    assert score(task.eval_docs_no_media[0], "yes")["yes_ratio"]["score"] == 1.0
    monkeypatch.setattr(task.config, "process_results", spoilt)
    with pytest.raises(KeyError, match="answer"):
        score({}, " yes ")
    assert asked == [["yes"]]


def run_of_a_users_task(folder: Path, include_path: Any) -> Path:
    """A run of a copy of one of our tasks under a name of its own."""
    write_run(folder, [asked(0, "yes"), asked(1, "yes")])
    for path in [*folder.glob("1_*"), folder / "traces" / "traces.rank0000.jsonl"]:
        text = path.read_text().replace(TASK, MINE)
        path.rename(path.with_name(path.name.replace(TASK, MINE))).write_text(text)
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    results["config"]["resolved_cli_args"]["include_path"] = include_path
    path.write_text(json.dumps(results))
    return folder


def tasks_of_a_user(folder: Path) -> Path:
    folder.mkdir()
    ours = next(resource_folder("tasks").rglob(f"{TASK}.yaml"))
    (folder / "mine.yaml").write_text(f"include: {ours}\ntask: {MINE}\n")
    return folder


def harmful(run: Run) -> list[str]:
    return [str(fault) for fault in run.faults if not fault.harmless]


@pytest.mark.parametrize("form", [str, lambda folder: [str(folder)]])
def test_a_users_own_task_is_scored_again_from_its_folder(tmp_path: Path, form: Any) -> None:
    folder = tasks_of_a_user(tmp_path / "tasks")
    run = read_run(run_of_a_users_task(tmp_path / "run", form(folder)))
    assert (list(run.tasks), harmful(run)) == ([MINE], [])
    assert f"folders of the user's own tasks: {folder}" in str(run.faults[0])
    (row,) = strategy_section(run).tables["strategies"].rows
    assert [str(cell).partition(" ")[0] for cell in row[3:5]] == ["50.0", "50.0"]


def test_where_the_folder_has_gone_it_is_named_and_lmms_evals_own_scores_are_shown(tmp_path: Path) -> None:
    folder = run_of_a_users_task(tmp_path / "run", str(tmp_path / "gone"))
    run = read_run(folder)
    (fault,) = harmful(run)
    assert MINE in fault
    assert f"{tmp_path / 'gone'} of --include_path is not there): its scores are lmms-eval's own" in fault
    (table,) = strategy_section(run).tables.values()
    (row,) = table.rows
    starred = [name.endswith("*") for name in table.header].index(True)
    assert (row[:3], str(row[starred])) == ((MINE, "accuracy", 2), "50.0")
    assert MINE in table.notes[-1]
    assert str(overview_section({"run": run}).tables["runs"].rows[0][2]) == "50.0"


def test_code_that_came_with_the_results_is_not_run(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    brought, mine = (tasks_of_a_user(folder) for folder in (place / "tasks", tmp_path / "mine"))
    (tmp_path / "link").symlink_to(brought)
    for folder in (brought, place, tmp_path / "link"):
        results = {"config": {"resolved_cli_args": {"include_path": [str(folder), str(mine)]}}}
        usable, (why,) = included_folders(results, place)
        assert usable == [str(mine)]
        assert why == f"{folder} of --include_path lies among the results, whose code is not run"


def test_a_folder_that_cannot_be_read_costs_only_its_tasks(tmp_path: Path) -> None:
    broken = tasks_of_a_user(tmp_path / "tasks")
    (broken / "broken.yaml").write_text("{")
    tasks, faults = load_tasks([TASK], [str(broken)])
    assert (list(tasks), faults) == ([TASK], {})


def test_the_number_of_failed_questions_is_no_score() -> None:
    results = {"results": {"t": {"alias": "t", "by_kind,none": "{}", "failed,none": 0}}, "configs": {"t": {}}}
    assert main_metric(results, "t") is None
    results["results"]["t"]["acc,none"] = 0.5  # type: ignore[assignment]
    assert main_metric(results, "t") == "acc"
