"""A run read back: choices, and everything that can be wrong with its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from dualfocus_eval.analysis.choices import Choice, available_choices, scores_of
from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.report.sections.strategies import strategy_section
from dualfocus_eval.tiny.effect import SCENES
from dualfocus_eval.traces.record import Trace
from tests.analysis.runs import Answered, answered, read_with, run_of, scene, write_run

CHOICES = ("macro", "micro", "rule:own_context", "rule:micro_context", "rule:released", "selected", "oracle")
Scores = dict[Choice, list[float]]


def scores(run: Run) -> Scores:
    return {choice: scores_of(run.answers, choice).tolist() for choice in run.choices}


def test_every_choice_is_scored_by_the_task() -> None:
    run = run_of([
        answered(
            SCENES, scene(1, "red"), "blue", "The red.",
            picks={"own_context": "micro", "micro_context": "macro", "released": "micro"},
        )
    ])  # fmt: skip
    assert run.choices == CHOICES
    assert scores(run) == {
        "macro": [0], "micro": [1], "rule:own_context": [1], "rule:micro_context": [0], "rule:released": [1],
        "selected": [1], "oracle": [1],
    }  # fmt: skip
    assert run.faults == ()


def test_the_oracle_takes_the_macro_answer_where_only_that_is_right() -> None:
    found = scores(run_of([answered(SCENES, scene(1, "red"), "red", "blue")]))
    assert found["macro"] == found["oracle"] == [1]
    assert found["micro"] == found["selected"] == [0]


@pytest.mark.parametrize(("answer", "score"), [("red", 1.0), ("blue", 0.0)])
def test_without_a_box_every_choice_is_the_macro_answer(answer: str, score: float) -> None:
    found = scores(run_of([answered(SCENES, scene(1, "red"), answer, None)]))
    assert list(found.values()) == [[score]] * len(CHOICES)


def test_a_run_allows_the_choices_that_it_has_scores_for() -> None:
    full = {"strategy": "dualfocus", "adaptive_nll": None, "score_all": True, "selection": "own_context"}
    rows = run_of([answered(SCENES, scene(1, "red"), "red", "blue")]).answers
    assert available_choices(full, rows) == CHOICES
    unscored = ("macro", "micro", "rule:own_context", "selected", "oracle")
    assert available_choices(full | {"score_all": False}, rows) == unscored
    needing = full | {"score_all": False, "selection": "micro_context"}
    assert available_choices(needing, rows) == CHOICES
    untold = rows.assign(box_text=None)  # a region that was found without a text
    assert available_choices(full, untold) == tuple(choice for choice in CHOICES if choice != "rule:released")
    assert available_choices(full | {"adaptive_nll": 0.5}, rows) == ("macro", "selected")
    assert available_choices(full | {"strategy": "micro"}, rows) == ("selected",)


@pytest.fixture
def two() -> list[Answered]:
    return [
        answered(SCENES, scene(1, "red"), "blue", "red", doc_id=0, image="a"),
        answered(SCENES, scene(2, "red"), "red", "blue", doc_id=1, image="b"),
    ]


def faults(run: Run, *, harmless: bool) -> list[str]:
    return [str(fault) for fault in run.faults if fault.harmless is harmless]


def test_the_rows_hold_what_the_trace_says(tmp_path: Path, two: Sequence[Answered]) -> None:
    row = read_with(write_run(tmp_path / "run", two), two).answers.iloc[0]
    assert (row["task"], row["doc_id"], row["key"], row["cluster"]) == (SCENES, 0, f"{SCENES}/0", "a")
    assert (row["macro_text"], row["micro_text"], row["answer"], row["selected"]) == ("blue", "red", "red", "micro")
    assert row["macro_nll"] == pytest.approx(0.5)
    assert (row["macro_tokens"], row["micro_tokens"]) == (5, 4)
    assert [row[f"truth_{corner}"] for corner in ("x1", "y1", "x2", "y2")] == pytest.approx([0.1, 0.1, 0.3, 0.5])
    assert (row["crop_left"], row["crop_bottom"]) == (20, 130)


def test_a_line_that_was_cut_off_costs_its_question_only(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    for path in (folder / "traces" / "traces.rank0000.jsonl", folder / f"1_samples_{SCENES}.jsonl"):
        path.write_bytes(path.read_bytes()[:-20])
    run = read_with(folder, two)
    assert run.answers["key"].tolist() == [f"{SCENES}/0"]
    assert scores(run)["micro"] == [1]
    found = " ".join(faults(run, harmless=False))
    for what in ("1 trace files end in a line that was cut off", "1 sample lines cannot", "1 questions are missing"):
        assert what in found


def test_a_question_without_its_trace_keeps_its_official_score(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    path = folder / "traces" / "traces.rank0000.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    run = read_with(folder, two)
    assert run.answers["traced"].tolist() == [True, False]
    assert scores_of(run.answers, "selected").tolist() == [1, 0]
    assert str(scores_of(run.answers, "macro").tolist()) == "[0.0, nan]"
    assert faults(run, harmless=False) == [
        f"1 questions have no trace; run again, only what is missing is computed (task {SCENES})"
    ]


def test_without_a_trace_only_what_was_selected_is_shown(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    traces = folder / "traces" / "traces.rank0000.jsonl"
    traces.write_text(traces.read_text().splitlines(keepends=True)[0])
    run = read_with(folder, two)
    assert list(run.shown_choices) == list(CHOICES)
    (row,) = strategy_section(run).tables["strategies"].rows
    assert row[2] == 2
    traces.unlink()
    run = read_with(folder, two)
    assert run.shown_choices == run.shown_choices_of(SCENES) == {"selected": "selected"}
    (row,) = strategy_section(run).tables["strategies"].rows
    assert (row[2], str(row[3])[:4]) == (2, "50.0")


def test_questions_of_one_image_stay_together_where_only_some_are_traced(tmp_path: Path) -> None:
    rows = [answered(SCENES, scene(i, "red"), "red", "blue", doc_id=i, image="digest") for i in range(3)]
    folder = write_run(tmp_path / "run", rows)
    path = folder / "traces" / "traces.rank0000.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[1])
    run = read_with(folder, rows)
    assert run.answers["traced"].tolist() == [False, True, False]
    assert run.answers["cluster"].tolist() == ["digest"] * 3


def test_a_question_that_the_task_here_cannot_score_costs_only_itself(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    for known in (two[:1], [two[0], replace(two[1], doc={})]):
        run = read_with(folder, known)
        assert run.answers["traced"].tolist() == [True, False]
        assert scores_of(run.answers, "selected").tolist() == [1, 0]
        assert faults(run, harmless=False) == [
            f"1 questions that the task here does not have, or cannot score (task {SCENES})"
        ]


@pytest.mark.parametrize("part", ["results", "configs", "n-samples"])
def test_results_of_another_shape_are_named(tmp_path: Path, two: Sequence[Answered], part: str) -> None:
    path = write_run(tmp_path / "run", two) / "1_results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps(results | {part: [1]}))
    with pytest.raises(UserError, match=rf"its part `{part}` is not a table"):
        read_run(path)


@pytest.mark.parametrize("config", [None, "text", {"resolved_cli_args": "--model dualfocus"}])
def test_without_its_arguments_a_run_is_one_of_another_model(
    tmp_path: Path, two: Sequence[Answered], config: object
) -> None:
    path = write_run(tmp_path / "run", two) / "1_results.json"
    results = {name: part for name, part in json.loads(path.read_text()).items() if name != "n-samples"}
    path.write_text(json.dumps(results | {"config": config}))
    run = read_with(path, two)
    assert (run.record, run.choices, len(run.answers)) == (None, ("selected",), 2)


def _append(folder: Path, *traces: Trace) -> None:
    with (folder / "traces" / "traces.rank0001.jsonl").open("w") as file:
        file.writelines(trace.to_json() + "\n" for trace in traces)


def test_traces_of_other_runs_are_left_out_and_counted(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder, trace = write_run(tmp_path / "run", two), two[0].trace
    _append(
        folder,
        replace(trace, settings_key="other"),
        replace(trace, key=f"{SCENES}/77"),
        replace(trace, question_digest="as it was before", micro=trace.macro),
    )
    run = read_with(folder, two)
    assert scores(run)["micro"] == [1, 0]
    assert [fault.partition(" (")[0] for fault in faults(run, harmless=True)] == [
        "1 traces are of other settings or checkpoints", "1 traces are of questions that this run did not ask",
    ]  # fmt: skip
    assert faults(run, harmless=False) == []


def test_only_traces_of_the_run_s_own_arithmetic_count(tmp_path: Path, two: Sequence[Answered]) -> None:
    """A run was repeated after an upgrade; the traces that came later are of another run with the older version."""
    folder = write_run(tmp_path / "run", two)
    newer, older = {"torch": "2.15.0"}, {"torch": "2.14.0"}
    traces = [answer.trace for answer in two]
    (folder / "traces" / "traces.rank0000.jsonl").write_text(
        "".join(replace(trace, arithmetic=newer).to_json() + "\n" for trace in traces)
    )
    # The same scores, so that nothing but the arithmetic tells them from the run's own.
    _append(folder, *(replace(trace, arithmetic=older, grounding=None) for trace in traces))
    results = json.loads((folder / "1_results.json").read_text())
    results["config"]["resolved_cli_args"]["dualfocus"]["arithmetic"] = newer
    (folder / "1_results.json").write_text(json.dumps(results))
    run = read_with(folder, two)
    assert run.answers["outcome"].tolist() == ["ok", "ok"]
    assert faults(run, harmless=False) == []
    assert faults(run, harmless=True)[0].startswith("2 traces are of other versions, precisions or devices")


def test_a_trace_that_contradicts_the_results_is_not_used(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    trace = two[0].trace
    _append(folder, replace(trace, micro=trace.macro))
    run = read_with(folder, two)
    assert run.answers["traced"].tolist() == [False, True]
    assert "scores otherwise than lmms-eval's results say" in faults(run, harmless=False)[0]


def test_a_moved_run_finds_its_traces_and_the_newest_of_several_is_read(
    tmp_path: Path, two: Sequence[Answered]
) -> None:
    folder = write_run(tmp_path / "run", two).rename(tmp_path / "moved")
    assert read_with(folder, two).answers["traced"].all()
    path = folder / "1_results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"date": "20260102_000000"}))
    (folder / "2_results.json").write_text(json.dumps({"date": "20260101_000000"}))
    run = read_with(folder, two)
    assert run.path.name == "1_results.json"
    assert "older run is in" in faults(run, harmless=True)[0]


def test_a_copied_run_is_read_with_its_own_traces(tmp_path: Path, two: Sequence[Answered]) -> None:
    """Even where the folder that the results name holds traces of the same settings."""
    folder = write_run(tmp_path / "run", two)
    copied = copytree(folder, tmp_path / "copy")
    traces = folder / "traces" / "traces.rank0000.jsonl"
    traces.write_text(traces.read_text().replace('"blue"', '"green"'))
    assert read_with(copied, two).answers["macro_text"].tolist() == ["blue", "red"]
    beside = copied / "traces" / "traces.rank0000.jsonl"
    beside.write_text(beside.read_text().replace("these settings", "others"))
    assert read_with(copied, two).answers["macro_text"].tolist() == ["green", "red"]


def test_a_lost_sample_file_is_a_fault(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    _append(folder, replace(two[0].trace, key="other/0"))
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    results["n-samples"]["other"] = {"effective": 1}
    path.write_text(json.dumps(results))
    run = read_with(folder, two)
    assert run.task_names == (SCENES,)
    assert faults(run, harmless=False) == ["1 sample file is missing (task other): only the task's totals are known"]
    assert faults(run, harmless=True) == []


@pytest.mark.parametrize("content", ["", '{"settings_key": "others"}\n'])
def test_without_any_usable_trace_a_run_is_not_whole(tmp_path: Path, two: Sequence[Answered], content: str) -> None:
    folder = write_run(tmp_path / "run", two)
    (folder / "traces" / "traces.rank0000.jsonl").write_text(content)
    run = read_with(folder, two)
    assert scores(run) == {"selected": [1, 0]}
    assert "without any usable trace" in " ".join(faults(run, harmless=False))


@pytest.mark.parametrize(
    "change",
    [
        {"settings": None},
        {"settings": {"strategy": "none", "selection": "own_context"}},
        {"settings": {"selection": 5}},
        {"settings_key": 5},
        {"settings_from": None},
        {"traces": None},
        {"engine": None},
        {"environment": []},
        {"environment": {"packages": [1]}},
        {"summary": 5},
        {"summary": {"resumed": None}},
        {"checkpoint": 5},
    ],
)
def test_a_record_that_cannot_be_used_is_named(
    tmp_path: Path, two: Sequence[Answered], change: dict[str, object]
) -> None:
    path = write_run(tmp_path / "run", two) / "1_results.json"
    results = json.loads(path.read_text())
    results["config"]["resolved_cli_args"]["dualfocus"] |= change
    results["total_evaluation_time_seconds"] = "long"
    results["n-samples"][SCENES] = {"effective": "many"}
    results["configs"][SCENES]["metric_list"] = "accuracy"
    path.write_text("\ufeff" + json.dumps(results), encoding="utf-8")
    run = read_with(path, two)
    assert (run.record, len(run.answers)) == (None, 2)
    assert "record of --model dualfocus cannot be used" in " ".join(faults(run, harmless=False))


def test_a_run_of_the_version_before_is_read_by_todays_names(tmp_path: Path, two: Sequence[Answered]) -> None:
    path = write_run(tmp_path / "run", two) / "1_results.json"
    results = json.loads(path.read_text())
    record = results["config"]["resolved_cli_args"]["dualfocus"]
    today = dict(record["settings"])
    old = {name: today[name] for name in today if name not in ("prompt_set", "grounding", "second_pass")}
    record["settings"] = old | {"wording": today["prompt_set"], "selection": "own"}
    path.write_text(json.dumps(results))
    run = read_with(path, two)
    assert run.settings == today | {"selection": "own_context"}
    assert run.answers["selected"].tolist() == ["micro", "micro"]
    assert "own_context *" in run.shown_choices.values()


def test_the_record_stands_in_the_results_and_in_earlier_ones_among_the_arguments(
    tmp_path: Path, two: Sequence[Answered]
) -> None:
    path = write_run(tmp_path / "run", two) / "1_results.json"
    results = json.loads(path.read_text())
    record = results["config"].pop("resolved_cli_args")["dualfocus"]
    path.write_text(json.dumps(results | {"dualfocus": record}))
    assert read_with(path, two).record == record


def test_damaged_samples_cost_only_themselves(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    file = folder / f"1_samples_{SCENES}.jsonl"
    first, second = map(json.loads, file.read_text().splitlines())
    lines = [
        first | {"input": "half \ud800"},
        second,
        *({"doc_id": bad} for bad in (1e400, 10**30, None, "x")),
        "[" * 9999,
    ]
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    run = read_with(folder, two)
    assert run.answers["question"].tolist()[0] == "half ?"
    assert "5 sample lines cannot be read" in " ".join(faults(run, harmless=False))
    (folder / f"1_samples_{SCENES}.jsonl").unlink()
    (folder / f"1_samples_{SCENES}.jsonl").mkdir()
    assert read_with(folder, two).answers.empty


def test_a_run_of_another_model_is_read_as_far_as_it_goes(tmp_path: Path, two: Sequence[Answered]) -> None:
    folder = write_run(tmp_path / "run", two)
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    results["config"] = {"resolved_cli_args": {}}
    path.write_text(json.dumps(results))
    run = read_with(folder, two)
    assert run.choices == ("selected",)
    assert scores(run) == {"selected": [1, 0]}
    assert run.answers["cluster"].tolist() == ["i", "i"]
    assert "not of --model dualfocus" in faults(run, harmless=True)[0]
    assert faults(run, harmless=False) == []
    for file in folder.glob("*_samples_*"):
        file.unlink()
    assert "--log_samples" in " ".join(faults(read_run(folder), harmless=False))


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_run(tmp_path / "missing")
    with pytest.raises(UserError, match="holds no results"):
        read_run(tmp_path)
    (tmp_path / "1_results.json").write_text('{"results"')
    with pytest.raises(UserError, match=r"1_results\.json cannot be read"):
        read_run(tmp_path)
    (tmp_path / "1_results.json").write_text("[]")
    with pytest.raises(UserError, match="not a results file"):
        read_run(tmp_path)
