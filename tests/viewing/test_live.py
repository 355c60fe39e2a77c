from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.traces.progress import ProgressFormatError
from dualfocus_eval.viewing.live import LiveRun
from dualfocus_eval.viewing.notes import find_notes
from tests.viewing.runs import STARTED, TASK, failed, fallen, note, put, trace


def live(place: Path, seconds: float = 10.0) -> LiveRun:
    """The run in ``place``, seen so many seconds after it began, its last answer being of that moment."""
    for path in (place / "traces").glob("*.jsonl"):
        os.utime(path, (STARTED + seconds, STARTED + seconds))
    found = find_notes(place)
    assert found
    return LiveRun(found, place, clock=lambda: STARTED + seconds)


def seen(run: LiveRun) -> dict[str, Any]:
    run.refresh()
    return run.snapshot()


def test_progress_rate_and_time_left(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(50)})
    put(tmp_path / "traces", [trace(number) for number in range(20)])
    found = seen(live(tmp_path, seconds=10))
    assert (found["answered"], found["asked"], found["answered_earlier"]) == (20, 50, 0)
    assert found["rate"] == 2.0
    assert found["left"] == 15.0
    assert [(task["name"], task["answered"], task["asked"]) for task in found["tasks"]] == [(TASK, 20, 50)]


def test_nothing_is_answered_yet(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(5)})
    found = seen(live(tmp_path, seconds=40))
    assert (found["answered"], found["rate"], found["left"], found["idle"]) == (0, None, None, 40.0)


def test_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(3)})
    path = put(tmp_path / "traces", [trace(0)])
    line = trace(1).to_json().encode() + b"\n"
    with path.open("ab") as file:
        file.write(line[:50])
    run = live(tmp_path)
    assert seen(run)["answered"] == 1
    assert seen(run)["remarks"] == []
    with path.open("ab") as file:
        file.write(line[50:])
    assert seen(run)["answered"] == 2


def test_a_damaged_line_is_counted_and_the_next_is_read(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(3)})
    path = put(tmp_path / "traces", [trace(0)])
    with path.open("ab") as file:
        file.write(b'{"key": "' + TASK.encode() + b'/1"\n' + trace(2).to_json().encode() + b"\n")
    found = seen(live(tmp_path))
    assert found["answered"] == 2
    assert found["remarks"] == ["1 lines of the trace files are no traces of this version"]


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(3)})
    path = put(tmp_path / "traces", [trace(0), trace(1)])
    run = live(tmp_path)
    seen(run)
    path.unlink()
    put(tmp_path / "traces", [trace(0), trace(1), trace(2)])
    assert seen(run)["answered"] == 3


def test_answers_of_other_settings_questions_and_devices_do_not_count(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(2)})
    others = [
        trace(0, settings_key="other"), trace(0, arithmetic={"torch": "2.14.0"}), trace(7), trace(0, task="another"),
    ]  # fmt: skip
    put(tmp_path / "traces", [*others, trace(1)])
    assert seen(live(tmp_path))["answered"] == 1


def test_a_run_that_goes_on_counts_earlier_answers_but_not_in_its_rate(tmp_path: Path) -> None:
    put(tmp_path / "traces", [*(trace(number) for number in range(10)), failed(10)])
    note(tmp_path / "traces", {TASK: range(40)})
    run = live(tmp_path)
    assert (seen(run)["answered"], seen(run)["rate"]) == (10, None)  # what failed is asked again
    put(tmp_path / "traces", [trace(number) for number in range(10, 15)])
    found = seen(live(tmp_path, seconds=10))
    assert (found["answered"], found["answered_earlier"], found["rate"], found["left"]) == (15, 10, 0.5, 50.0)


def test_a_new_run_in_the_folder_is_another(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(2)})
    first = find_notes(tmp_path)
    note(tmp_path / "traces", {TASK: range(3)}, started=STARTED + 60)
    second = find_notes(tmp_path)
    assert first
    assert second
    assert first.by_file != second.by_file


def test_every_process_notes_its_share(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    note(folder, {TASK: (9,)}, rank=2, processes=3)  # of an earlier run
    note(folder, {TASK: (0, 2)}, processes=2)
    note(folder, {TASK: (1, 3)}, rank=1, processes=2)
    put(folder, [trace(0)])
    put(folder, [trace(1)], rank=1)
    found = seen(live(tmp_path))
    assert (found["answered"], found["asked"], found["remarks"]) == (2, 4, [])


def test_a_process_that_has_not_begun_is_named(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: (0, 2)}, processes=2)
    put(tmp_path / "traces", [trace(0), trace(2)])
    run = live(tmp_path)
    assert seen(run)["remarks"] == ["1 of 2 processes have not begun to ask yet"]
    assert not run.complete


def test_a_run_whose_first_process_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: (1, 3)}, rank=1, processes=3)
    assert find_notes(tmp_path) is None
    note(tmp_path / "traces", {TASK: (2, 5)}, rank=2, processes=3)
    note(tmp_path / "traces", {TASK: (0, 4)}, processes=3)
    (tmp_path / "traces" / "progress.rank0001.json").unlink()
    found = find_notes(tmp_path)
    assert found
    assert (sorted(found.by_file), found.missing) == (["traces.rank0000.jsonl", "traces.rank0002.jsonl"], 1)


def test_failures_and_fallbacks_by_kind(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: range(9)})
    put(tmp_path / "traces", [failed(0), failed(1), failed(2, "too_long", "9,000 tokens"), fallen(3), trace(4)])
    found = seen(live(tmp_path))
    assert found["failures"] == [
        {"kind": "out_of_memory", "count": 2, "example": "the batch does not fit"},
        {"kind": "too_long", "count": 1, "example": "9,000 tokens"},
    ]
    assert found["fallbacks"] == [{"kind": "crop_too_small", "count": 1, "example": ""}]
    assert found["tasks"][0]["failed"] == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"started": "now"}'])
def test_a_damaged_note_is_named(tmp_path: Path, content: str) -> None:
    path = note(tmp_path / "traces", {TASK: range(2)})
    path.write_text(content)
    with pytest.raises(ProgressFormatError, match=r"progress\.rank0000\.json"):
        find_notes(tmp_path)


def test_scores_are_the_tasks_own_by_pathway(tmp_path: Path) -> None:
    from dualfocus_eval.analysis.scoring import load_tasks

    (task,) = load_tasks([TASK])[0].values()
    docs = task.eval_docs_no_media
    targets = [str(task.doc_to_target(docs[number])) for number in range(4)]
    note(tmp_path / "traces", {TASK: range(6), "no_such_task": (0,)})
    put(tmp_path / "traces", [
        trace(0, targets[0], "wrong"), trace(1, "wrong", targets[1]), trace(2, targets[2], targets[2]),
        trace(3, targets[3]), failed(4), trace(0, "x", task="no_such_task"),
    ])  # fmt: skip
    run = live(tmp_path)
    run.refresh()
    while run.score():
        pass
    found = run.snapshot()
    scenes, unknown = found["tasks"]
    assert scenes["scored"] == 5
    values = {name: round(estimate["value"], 6) for name, estimate in scenes["scores"].items()}
    assert values == {"macro": 0.6, "micro": 0.6, "selected": 0.6}
    assert all(0 <= estimate["low"] < estimate["high"] <= 1 for estimate in scenes["scores"].values())
    assert scenes["difference"]["value"] == 0
    assert unknown["scores"] == {}
    assert any("no_such_task cannot be scored here" in remark for remark in found["remarks"])
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("strategy", "skipped", "shown"),
    [("macro", False, {"selected"}), ("micro", False, {"selected"}), ("dualfocus", True, {"macro", "selected"})],
)
def test_only_pathways_that_answer_every_question_have_a_score(
    tmp_path: Path, strategy: str, skipped: bool, shown: set[str]
) -> None:
    note(tmp_path / "traces", {TASK: range(2)}, strategy=strategy)
    put(tmp_path / "traces", [trace(0, skipped_micro=skipped), trace(1, "red", "blue")])
    run = live(tmp_path)
    run.refresh()
    run.score()
    (task,) = run.snapshot()["tasks"]
    assert set(task["scores"]) == shown
    assert (task["difference"] is not None) == ("macro" in shown)


def test_a_run_of_one_question_has_whole_numbers(tmp_path: Path) -> None:
    note(tmp_path / "traces", {TASK: (0,)})
    put(tmp_path / "traces", [trace(0)])
    run = live(tmp_path)
    run.refresh()
    assert run.complete
    assert not run.score()
    found = run.snapshot()
    assert (found["left"], found["answered"]) == (None, 1)
    json.dumps(found, allow_nan=False)


def test_a_task_whose_data_cannot_be_read_costs_its_scores_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualfocus_eval.viewing import scoring

    class Broken:
        config = None

        @property
        def eval_docs_no_media(self) -> None:
            raise OSError("the file is gone")

    monkeypatch.setattr(scoring, "load_tasks", lambda *_: ({TASK: Broken()}, {}))
    note(tmp_path / "traces", {TASK: (0,)})
    put(tmp_path / "traces", [trace(0)])
    run = live(tmp_path)
    run.refresh()
    assert not run.score()
    assert run.snapshot()["remarks"] == [f"{TASK} cannot be scored here: OSError: the file is gone"]


def test_text_that_a_task_cannot_score_is_counted(tmp_path: Path) -> None:
    from dualfocus_eval.viewing.scoring import Candidates, TaskScores

    def score(doc: object, text: str) -> dict[str, float]:
        return {"accuracy": float(text)}

    scores = TaskScores(lambda number: {}, score, "accuracy")
    scores.add([(0, Candidates("1", "0", "micro", "a")), (1, Candidates("no", None, "macro", "b"))])
    scores.add([(2, Candidates("7", "1", "macro", "c"))])
    assert scores.unscorable == {"ValueError: could not convert string to float: 'no'": 1}
    summary = scores.summary()
    assert not summary.share
    assert {name: found.value for name, found in summary.means.items()} == {"macro": 4, "micro": 0.5, "selected": 3.5}
    assert summary.difference
    assert summary.difference.value == -0.5
