"""Two runs joined by perplexity: the choice, its scores against a count by hand, and runs that cannot be joined."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualfocus_eval.analysis.measures import metric
from dualfocus_eval.analysis.run_join import JoinedRuns, join_runs, macro_alone
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.report.joined_runs import joined_tables
from tests.analysis.runs import Answered, answered, read_with, write_run
from tests.gate.gate import TASK, asked, gate_run, question, read_gate_run

MMBENCH = "df_mmbench_en_mini"


def read(folder: Path, rows: list[Answered]) -> Run:
    return read_gate_run(gate_run(folder, rows), rows)


def joined(tmp_path: Path, first: Sequence[tuple[str, float]], second: Sequence[tuple[str, float]]) -> JoinedRuns:
    """Two runs of questions whose right answer is yes; of each the answers with their NLL."""
    sides = [
        [question(number, text, nlls=(nll, 9.0)) for number, (text, nll) in enumerate(side)] for side in (first, second)
    ]
    return join_runs(*(read(tmp_path / name, rows) for name, rows in zip("ab", sides, strict=True)))


def test_the_lower_perplexity_is_selected_and_b_on_a_tie(tmp_path: Path) -> None:
    run = joined(
        tmp_path,
        [("yes", 0.1), ("yes", 0.5), ("no", 0.3), ("yes", 0.2)],
        [("no", 0.2), ("no", 0.4), ("yes", 0.3), ("no", 0.9)],
    ).run
    assert list(run.answers["answer"]) == ["yes", "no", "yes", "yes"]
    assert list(run.answers["selected"]) == ["macro", "micro", "micro", "macro"]
    found = {
        choice: metric(run, TASK, "accuracy", choice)[1].value for choice in ("macro", "micro", "selected", "oracle")
    }
    assert found == {"macro": 75.0, "micro": 25.0, "selected": 75.0, "oracle": 100.0}


def test_a_circular_metric_is_aggregated_over_the_joined_answers(tmp_path: Path) -> None:
    """MMBench: a question counts when all rotations are right; here against a count by hand."""
    draw = random.Random(3)
    sides, right = [], {}
    for side in "ab":
        rows = []
        for number in range(40):
            answer = draw.choice("AB")
            nll = draw.uniform(0.1, 2.0)
            rows.append(rotation(number, answer, nll))
            right[side, number] = (answer == "A", nll)
        folder = write_run(tmp_path / side, rows)
        results = folder / "1_results.json"
        results.write_text(results.read_text().replace("accuracy,none", "circular,none"))
        sides.append(read_with(folder, rows))
    run = join_runs(*sides).run
    chosen = [
        right["a", number][0] if right["a", number][1] < right["b", number][1] else right["b", number][0]
        for number in range(40)
    ]
    circular = np.mean([chosen[number] and chosen[number + 1] for number in range(0, 40, 2)])
    assert metric(run, MMBENCH, "circular", "selected")[1].value == pytest.approx(100 * circular)
    tables = joined_tables(join_runs(*sides))
    (row,) = tables["scores"].rows
    assert row[:3] == (MMBENCH, "circular", 40)
    (row,) = tables["differences"].rows
    differ = [number for number in range(40) if right["a", number][0] != right["b", number][0]]
    assert row[3] == len(differ)
    taken = np.mean([right["b", number][1] <= right["a", number][1] for number in differ])
    assert row[4].value == pytest.approx(100 * taken)
    first = np.mean([right["a", number][0] for number in range(40)])
    assert row[5].value == pytest.approx(100 * (np.mean(chosen) - first))


def rotation(number: int, answer: str, nll: float) -> Answered:
    doc: dict[str, Any] = {
        "index": number // 2 + 1_000_000 * (number % 2), "question": "Which?", "hint": None, "answer": "A",
        "A": "red", "B": "blue", "C": None, "D": None, "category": "ocr", "l2-category": "coarse_perception",
        "L2-category": "coarse_perception", "image_id": str(number // 2),
    }  # fmt: skip
    return answered(MMBENCH, doc, answer, None, doc_id=number, image=str(number // 2), nlls=(nll, 0.0))


def test_the_macro_answers_of_a_run_in_two_passes_can_be_joined(tmp_path: Path) -> None:
    rows = [question(0, "no", micro="yes", nlls=(0.7, 0.1)), question(1, "yes", micro="no", nlls=(0.2, 0.1))]
    run = read(tmp_path / "a", rows)
    other = read(tmp_path / "b", [question(0, "yes", nlls=(0.5, 9.0)), question(1, "no", nlls=(0.5, 9.0))])
    assert list(join_runs(run, other).run.answers["answer"]) == ["yes", "no"]
    found = join_runs(macro_alone(run), other).run
    assert list(found.answers["answer"]) == ["yes", "yes"]
    assert list(found.answers["macro_nll"]) == pytest.approx([0.7, 0.2])
    assert metric(found, TASK, "accuracy", "macro")[1].value == 50.0


def test_other_questions_are_left_out_and_other_prompts_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [asked(number, "yes") for number in range(6)]
    first = gate_run(tmp_path / "a", rows[:5])
    prompted = replace(rows[2], trace=replace(rows[2].trace, question_digest="of another system prompt"))
    second = gate_run(tmp_path / "b", [rows[1], prompted, rows[3], rows[4], rows[5]])
    change_samples(first, {3: {"doc_hash": "same"}, 4: {"doc_hash": "one"}})
    change_samples(second, {
        3: {"doc_hash": "same", "input": "Another prompt?"}, 4: {"doc_hash": "two", "input": "Another question?"},
    })  # fmt: skip
    assert main(["join", str(first), str(second)]) == 0
    printed = capsys.readouterr().out
    assert "joining 3 questions; left out: " in printed
    for reason in (f"1 only in A ({TASK}/0)", f"1 only in B ({TASK}/5)", f"1 with another text in B ({TASK}/4)"):
        assert reason in printed
    assert f"2 asked with another prompt in B ({TASK}/2, {TASK}/3)" in printed
    assert "joined - A" in printed


def change_samples(folder: Path, changes: dict[int, dict[str, Any]]) -> None:
    path = folder / f"1_samples_{TASK}.jsonl"
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(one | changes.get(one["doc_id"], {})) + "\n" for one in samples))


def test_runs_that_cannot_be_joined_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = gate_run(tmp_path / "a", [asked(0, "yes")])
    untraced = gate_run(tmp_path / "untraced", [asked(0, "yes")])
    (untraced / "traces" / "traces.rank0000.jsonl").unlink()
    disjoint = gate_run(tmp_path / "disjoint", [asked(1, "yes")])
    for place, message in (
        (tmp_path / "nowhere", "there is no run"),
        (untraced, f"no question has a perplexity in both runs, so nothing can decide between their answers: 1 without "
                   f"a perplexity in B ({TASK}/0)"),
        (disjoint, "the runs have no question in common"),
    ):  # fmt: skip
        assert main(["join", str(run), str(place)]) == 2
        assert message in capsys.readouterr().err


def test_runs_of_different_tasks_are_refused(tmp_path: Path) -> None:
    first = read(tmp_path / "a", [question(0, "yes")])
    rows = [question(0, "yes"), rotation(0, "A", 0.1)]
    second = read_with(write_run(tmp_path / "b", rows), rows)
    with pytest.raises(UserError, match=f"different tasks: only B has {MMBENCH}"):
        join_runs(first, second)


def test_status_1_says_that_a_run_has_lost_samples(tmp_path: Path) -> None:
    whole, cut = (gate_run(tmp_path / name, [asked(n, "yes") for n in range(3)]) for name in "ab")
    samples = cut / f"1_samples_{TASK}.jsonl"
    samples.write_text(samples.read_text()[:-20])
    assert main(["join", str(whole), str(whole)]) == 0
    assert main(["join", str(whole), str(cut)]) == 1
