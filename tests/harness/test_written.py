"""Files of results and samples that are not whole, as lmms-eval's own code leaves them, are named after the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.loggers import EvaluationTracker

from dualfocus_eval.engines.base import Completion
from dualfocus_eval.harness.written import file_faults
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.store import TraceStore
from tests.full_disk import file_size_limit

KEY = "settings"
DATE = "20261128_190049"


class Finished:
    """A run of four questions whose answers are traced, not yet written by lmms-eval."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        self.traces = self.output / "traces"
        with TraceStore(self.traces, KEY) as store:
            for number in range(4):
                macro = Completion(f"red {number} ↑", (1, 0), (-0.5, -0.5), "eos")
                store.put(Trace(f"t/{number}", "digest", KEY, "short", (), macro, selected="macro"))
        record = {
            "settings_key": KEY,
            "traces": str(self.traces),
            "summary": {"unwritten": 0},
            "tasks": {"t": {"questions": 4, "failures": {}}},
        }
        self.results: dict[str, Any] = {"date": DATE, "results": {"t": {"acc,none": 0.5}}, "dualfocus": record}
        self.samples: dict[str, list[dict[str, Any]]] = {
            "t": [
                {
                    "doc_id": number, "doc": {}, "target": "red", "doc_hash": "x", "arguments": ["which?"],
                    "resps": [[f"red {number} ↑"]], "filtered_resps": [f"red {number} ↑"],
                    "dualfocus": {"answer": f"red {number} ↑"}, "score": 1.0,
                }
                for number in range(4)
            ]
        }  # fmt: skip
        self.folder = self.output / "some__model"

    def write(self) -> None:
        tracker = EvaluationTracker(output_path=str(self.output))
        tracker.general_config_tracker.log_experiment_args("dualfocus", "pretrained=some/model", "", "", False)
        tracker.save_results_aggregated(self.results, self.samples, DATE)
        tracker.save_results_samples("t", self.samples["t"])  # type: ignore[arg-type]

    @property
    def faults(self) -> list[str]:
        return file_faults(str(self.output), self.results, self.samples)

    @property
    def samples_file(self) -> Path:
        return self.folder / f"{DATE}_samples_t.jsonl"

    @property
    def results_file(self) -> Path:
        return self.folder / f"{DATE}_results.json"


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    return Finished(tmp_path)


def test_whole_files_have_no_faults(finished: Finished) -> None:
    finished.write()
    assert finished.results_file.is_file()
    assert finished.faults == []


def test_a_stored_trace_that_another_rule_decided_has_the_answer_too(finished: Finished) -> None:
    macro = Completion("blue", (1, 0), (-0.5, -0.5), "eos")
    micro = Completion("red 0 ↑", (1, 0), (-0.5, -0.5), "eos")
    shutil.rmtree(finished.traces)
    with TraceStore(finished.traces, KEY) as store:
        for number in range(4):
            two = replace(micro, text=f"red {number} ↑")
            store.put(Trace(f"t/{number}", "digest", KEY, "short", (), macro, two, selected="macro"))
    finished.write()
    assert finished.faults == []


def test_a_run_without_samples_or_of_another_model_is_checked_as_far_as_it_goes(finished: Finished) -> None:
    del finished.results["dualfocus"]
    finished.write()
    assert finished.faults == []
    assert file_faults(str(finished.output), finished.results, None) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [0, 100, 500])
def test_a_disk_that_fills_while_they_are_written(finished: Finished, size: int) -> None:
    with file_size_limit(size):
        finished.write()
    faults = finished.faults
    assert any("_results.json is damaged" in fault for fault in faults)
    assert any("_samples_t.jsonl is damaged: row" in fault for fault in faults)


def test_a_folder_that_cannot_be_made(finished: Finished) -> None:
    finished.folder.write_text("in its place")
    finished.write()
    assert [fault.partition(":")[0] for fault in finished.faults] == [
        f"{finished.results_file} is missing",
        f"{finished.samples_file} is missing",
    ]


def drop_row(finished: Finished) -> None:
    lines = finished.samples_file.read_text().splitlines(keepends=True)
    finished.samples_file.write_text("".join(lines[:-1]))


def repeat_row(finished: Finished) -> None:
    with finished.samples_file.open("a") as file:
        file.write(finished.samples_file.read_text().splitlines(keepends=True)[-1])


def change_score(finished: Finished) -> None:
    finished.results_file.write_text(finished.results_file.read_text().replace("0.5", "0.7"))


def delete_traces(finished: Finished) -> None:
    shutil.rmtree(finished.traces)


def lose_traces(finished: Finished) -> None:
    path = finished.traces / "traces.rank0000.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop_row, "_samples_t.jsonl is damaged: row 4 of 4"),
        (repeat_row, "_samples_t.jsonl is damaged: row 5 of 4"),
        (change_score, "_results.json is damaged"),
        (delete_traces, "4 answers in the samples have no trace in"),
        (lose_traces, "2 answers in the samples have no trace in"),
    ],
)
def test_files_that_disagree_with_the_run(finished: Finished, damage: Callable[[Finished], None], words: str) -> None:
    finished.write()
    damage(finished)
    (fault,) = finished.faults
    assert words in fault


def test_a_trace_that_other_versions_computed_is_not_this_run_s(finished: Finished) -> None:
    finished.results["dualfocus"]["arithmetic"] = {"torch": "9.9"}
    finished.write()
    (fault,) = finished.faults
    assert "4 answers in the samples have no trace in" in fault


def test_answers_that_are_known_to_be_unwritten_are_not_named_twice(finished: Finished) -> None:
    finished.results["dualfocus"]["summary"]["unwritten"] = 4
    finished.write()
    delete_traces(finished)
    assert finished.faults == []


def test_questions_that_are_missing_from_the_samples(finished: Finished) -> None:
    del finished.samples["t"][1]
    finished.write()
    assert finished.faults == ["task t: 4 questions were asked, 3 are in the samples"]
