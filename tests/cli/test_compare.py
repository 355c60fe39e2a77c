"""Two runs side by side: numbers against scipy, flips, and runs that cannot be compared."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from dualfocus_eval.analysis.pairing import compare_categories, compare_tasks, pair_runs
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.report.run_comparison import comparison_table
from dualfocus_eval.tiny.effect import SCENES
from tests.analysis.runs import Answered, answered, failing, scene
from tests.gate.gate import TASK, asked, gate_run, question, read_gate_run


def read(folder: Path, rows: list[Answered]) -> Run:
    return read_gate_run(gate_run(folder, rows), rows)


def questions(texts: str) -> list[Answered]:
    """A question per letter: y answers yes, which is right, n answers no."""
    return [question(number, {"y": "yes", "n": "no"}[letter]) for number, letter in enumerate(texts)]


def test_each_task_is_compared_question_by_question(tmp_path: Path) -> None:
    first, second = "y" * 30 + "n" * 12 + "y" * 3, "y" * 30 + "y" * 12 + "n" * 3
    pairs = pair_runs(read(tmp_path / "a", questions(first)), read(tmp_path / "b", questions(second))).rows
    (found,) = compare_tasks(pairs)
    assert (found.name, found.questions, found.images) == (TASK, 45, 45)
    assert (found.first, found.second) == (33 / 45, 42 / 45)
    assert found.difference.value == pytest.approx(9 / 45)
    assert 0 < found.difference.low < 9 / 45 < found.difference.high
    assert (found.test.better, found.test.worse) == (12, 3)
    assert found.test.p_two_sided == found.p_adjusted == pytest.approx(stats.binomtest(3, 15).pvalue)


def test_a_run_compared_with_itself_differs_by_nothing(tmp_path: Path) -> None:
    run = read(tmp_path / "a", questions("yyny"))
    (found,) = compare_tasks(pair_runs(run, run).rows)
    assert (found.difference.value, found.test.p_two_sided) == (0.0, 1.0)
    assert found.difference.low < 0 < found.difference.high


def test_categories_share_the_significance(tmp_path: Path) -> None:
    def rows(answer: str) -> list[Answered]:
        kinds = ["mark_color"] * 6 + ["object_color"] * 6
        return [
            answered(
                SCENES,
                scene(number, "red", kind=kind, level="detail" if kind == "mark_color" else "global"),
                answer if kind == "mark_color" else "red",
                None,
                doc_id=number,
                image=f"image {number}",
            )
            for number, kind in enumerate(kinds)
        ]

    first, second = read(tmp_path / "a", rows("red")), read(tmp_path / "b", rows("blue"))
    found = {found.name: found for found in compare_categories(pair_runs(first, second).rows, first, second)}
    assert list(found) == [f"{SCENES}: {name}" for name in ("detail", "global", "mark_color", "object_color")]
    marks = found[f"{SCENES}: mark_color"]
    assert (marks.questions, marks.first, marks.second, marks.test.worse) == (6, 1.0, 0.0, 6)
    assert marks.test.p_two_sided == pytest.approx(2 * 0.5**6)
    assert marks.p_adjusted == pytest.approx(4 * 2 * 0.5**6)
    assert found[f"{SCENES}: object_color"].test.better == 0


def test_questions_without_a_score_are_counted_and_no_test_is_made_of_none(tmp_path: Path) -> None:
    rows = [*questions("yyyy"), *(question(number, "yes", task="df_pope_mini_popular") for number in range(3))]
    first, second = read(tmp_path / "a", rows), read(tmp_path / "b", [question(0, "no"), *rows[1:]])
    pairs = pair_runs(first, second).rows
    pairs.loc[pairs["task"] != TASK, "score_first"] = math.nan
    pairs.loc[1, "score_second"] = math.nan
    some, none = compare_tasks(pairs)
    assert (some.questions, some.unscored, none.questions, none.unscored) == (3, 1, 0, 3)
    assert math.isnan(none.test.p_two_sided)
    assert math.isnan(none.p_adjusted)
    assert some.p_adjusted == some.test.p_two_sided == 1.0
    table = comparison_table("Tasks", "task", [some, none])
    assert [str(cell) for cell in table.rows[1][3:]] == ["", "", "", "0", "0", "", ""]
    assert "number of rows (1)" in table.notes[0]
    assert table.notes[-1].endswith(f"{TASK}: 1; df_pope_mini_popular: 3.")


def test_scores_that_are_no_shares_are_compared_as_they_are(tmp_path: Path) -> None:
    run = read(tmp_path / "a", questions("yyny"))
    pairs = pair_runs(run, run).rows
    pairs[["score_first", "score_second"]] = [[1.5, 2.5], [2.0, 2.0], [-4.0, -3.0], [7.0, 7.5]]
    (found,) = compare_tasks(pairs)
    table = comparison_table("Tasks", "task", [found])
    assert [str(cell).partition(" ")[0] for cell in table.rows[0][3:6]] == ["1.62", "2.25", "+0.62"]
    assert any("not in percent" in note for note in table.notes)
    (same,) = compare_tasks(pairs.assign(score_second=pairs["score_first"]))
    assert (same.difference.value, math.isnan(same.difference.low)) == (0.0, True)


def test_a_run_of_another_model_can_be_compared(tmp_path: Path) -> None:
    rows = questions("yyn")
    ours, folder = read(tmp_path / "a", rows), gate_run(tmp_path / "b", rows)
    results = json.loads((folder / "1_results.json").read_text())
    del results["config"]["resolved_cli_args"]["dualfocus"]
    (folder / "1_results.json").write_text(json.dumps(results))
    pairs = pair_runs(read_gate_run(folder, rows), ours).rows
    assert list(pairs["cluster"]) == [row.trace.images[0].digest for row in rows]
    assert compare_tasks(pairs)[0].difference.value == 0


def test_the_questions_that_both_runs_have_are_compared_and_the_others_counted(tmp_path: Path) -> None:
    other = "df_pope_mini_popular"
    run = read(tmp_path / "a", [*questions("yyyyy"), question(0, "yes", task=other)])
    kept, (text, image) = questions("n")[0], questions("yyyyy")[1:3]
    changed = [
        kept,
        text,
        question(2, "yes", image="another"),
        replace(questions("yyyyy")[3], doc={**image.doc, "answer": "no"}),
        question(7, "yes"),
        question(8, "yes"),
    ]
    second = read(tmp_path / "b", changed)
    second.answers.loc[second.answers["doc_id"] == 1, "question"] = "another prompt"
    found = pair_runs(run, second)
    assert list(found.rows["key"]) == [f"{TASK}/0"]
    assert found.left_out == {
        "only in A": (f"{other}/0", f"{TASK}/4"),
        "only in B": (f"{TASK}/7", f"{TASK}/8"),
        "with another text in B": (f"{TASK}/1",),
        "with another right answer in B": (f"{TASK}/3",),
        "about another image in B": (f"{TASK}/2",),
    }
    (task,) = compare_tasks(found.rows)
    assert (task.questions, task.test.worse) == (1, 1)
    assert compare_categories(found.rows, run, second) == []
    assert pair_runs(run, run).left_out == {}


def test_runs_without_a_common_question_are_refused(tmp_path: Path) -> None:
    first, second = read(tmp_path / "a", questions("yyyy")), read(tmp_path / "b", [question(7, "yes")])
    with pytest.raises(UserError, match=rf"no question in common.*: 4 only in A \({TASK}/0, .*, \.\.\.\); 1 only in B"):
        pair_runs(first, second)


def test_the_command_writes_a_page_of_both_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (gate_run(tmp_path / name, questions(texts)) for name, texts in (("a", "yyn"), ("b", "ynn")))
    for _ in range(2):
        assert main(["compare", str(first), str(second), "--out", str(tmp_path / "page")]) == 0
    assert "both runs' answers: " in capsys.readouterr().out
    index = (tmp_path / "page" / "inspect" / "index.js").read_text()
    found = json.loads(index[index.index("(") + 1 : index.rindex(")")])
    changes = next(facet for facet in found["facets"] if facet["name"] == "change")
    assert [changes["values"][changes["sets"][code][0]]["value"] for code in changes["codes"]] == [
        "same_right", "b_worse", "same_wrong",
    ]  # fmt: skip
    assert changes["wanted"]["values"] == [0]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "inspect.html").write_text("mine")
    assert main(["compare", str(first), str(second), "--out", str(tmp_path / "mine")]) == 2


def test_the_command_shows_and_writes_flips_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = 'no \x1b[31m[bold]x[/bold], "quoted"\nline \u202e' + "long" * 200
    first = gate_run(tmp_path / "a", [asked(0, "yes"), asked(1, "no"), asked(2, "yes")])
    second = gate_run(tmp_path / "b", [asked(0, nasty), asked(1, "yes"), asked(2, "yes")], settings={"margin": 0.0})
    flips = tmp_path / "out" / "flips.csv"
    assert main(["compare", str(first), str(second), "--flips", str(flips)]) == 0
    printed = capsys.readouterr().out
    assert "settings: margin 25.0 -> 0.0" in printed
    assert r"no \x1b[31m[bold]" in printed
    assert not {"\x1b", "\u202e"} & set(printed)
    assert "longlonglong" not in printed
    with flips.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == [f"{TASK}/0", f"{TASK}/1"]
    assert rows[0]["answer_b"] == nasty.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")
    assert {row["score_a"] for row in rows} | {row["score_b"] for row in rows} == {"0.0", "1.0"}


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = gate_run(tmp_path / "a", [asked(0, "yes"), asked(1, "yes")])
    other = gate_run(tmp_path / "b", [asked(5, "yes")])
    without = gate_run(tmp_path / "c", [asked(0, "yes")])
    (without / f"1_samples_{TASK}.jsonl").unlink()
    (tmp_path / "empty").mkdir()
    for second, message in ((other, "no question in common"), (without, "--log_samples"), (tmp_path / "empty", "no")):
        assert main(["compare", str(run), str(second)]) == 2
        printed = capsys.readouterr().err
        assert message in printed.splitlines()[-1]
        assert "Traceback" not in printed


def test_status_1_says_that_a_run_has_lost_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, shorter = (
        gate_run(tmp_path / name, [asked(n, "yes") for n in range(size)]) for name, size in (("a", 3), ("b", 2))
    )
    assert main(["compare", str(run), str(shorter)]) == 0
    assert f"the 2 questions that both runs have; left out: 1 only in A ({TASK}/2)" in capsys.readouterr().out
    cut = gate_run(tmp_path / "cut", [asked(n, "yes") for n in range(3)])
    samples = cut / f"1_samples_{TASK}.jsonl"
    samples.write_text(samples.read_text()[:-20])
    assert main(["compare", str(run), str(cut)]) == main(["compare", str(cut), str(run)]) == 1
    assert "1 sample lines cannot be read" in capsys.readouterr().out


def test_failed_questions_are_left_out_and_named_by_run_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [asked(n, "yes") for n in range(6)]
    one = [failing(rows[0]), failing(rows[1], "too_long"), *rows[2:5], failing(rows[5])]
    two = [failing(rows[0], "too_long"), *rows[1:3], failing(rows[3]), rows[4]]
    first, second = gate_run(tmp_path / "a", one), gate_run(tmp_path / "b", two)
    found = pair_runs(read_gate_run(first, rows), read_gate_run(second, rows))
    assert list(found.rows["key"]) == [f"{TASK}/2", f"{TASK}/4"]
    assert found.left_out == {
        "only in A": (f"{TASK}/5",),
        "failed in A as bad_image": (f"{TASK}/0",),
        "failed in A as too_long": (f"{TASK}/1",),
        "failed in B as bad_image": (f"{TASK}/3",),
    }
    whole = gate_run(tmp_path / "c", rows)
    for order in ((first, whole), (whole, first)):
        assert main(["compare", *map(str, order)]) == 1
        letter = "AB"[order.index(first)]
        assert f"left out: 2 failed in {letter} as bad_image ({TASK}/0, {TASK}/5); 1 failed" in capsys.readouterr().out
    assert main(["compare", str(whole), str(whole)]) == 0


def test_no_text_of_a_run_acts_in_a_log_or_a_spreadsheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = gate_run(tmp_path / "a", [asked(0, "yes")])
    second = gate_run(tmp_path / "b", [asked(0, "= no now\n::error::\x1b[2J")])
    flips = tmp_path / "flips.csv"
    assert main(["compare", str(first), str(second), "--flips", str(flips)]) == 0
    printed = capsys.readouterr().out
    assert not any(line.lstrip().startswith("::") for line in printed.splitlines())
    assert "\x1b" not in printed
    with flips.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["answer_b"] == "'= no now\n::error::\\x1b[2J"
    assert (row["score_a"], row["score_b"]) == ("1.0", "0.0")


def test_a_terminal_without_unicode_and_a_closed_one_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gate_run(tmp_path / "a", [asked(0, "yes")])
    second = gate_run(tmp_path / "b", [asked(0, "no \u65e5\u672c \U0001f600")])
    out = io.BytesIO()
    ascii_only = io.TextIOWrapper(out, encoding="ascii", write_through=True)
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", ascii_only)
        assert main(["compare", str(first), str(second)]) == 0
        patched.setattr("sys.stdout", None)
        assert main(["compare", str(first), str(second)]) == 0
    assert rb"no \u65e5\u672c \U0001f600" in out.getvalue()
