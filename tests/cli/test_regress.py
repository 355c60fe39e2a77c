"""The command: exit status, what it prints, what CI gets."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from dualfocus_eval.analysis.paired_tests import PairedTest
from dualfocus_eval.cli import regress
from dualfocus_eval.cli.main import main
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.gate import judging
from dualfocus_eval.gate.baseline import Answer
from dualfocus_eval.gate.baseline_file import load_baseline, save_baseline
from dualfocus_eval.gate.junit import error_xml, verdict_xml
from dualfocus_eval.gate.verdict import Move, TaskVerdict, Verdict
from tests.analysis.runs import Answered
from tests.gate.gate import MADE_BY, TASK, asked, documents, gate_run

QUESTIONS = 12
NASTY = '<script>|]]>\x00\n::error::y "%' + "x" * 900


def right(doc_id: int) -> Answered:
    return asked(doc_id, documents()[doc_id]["answer"])


def wrong(doc_id: int) -> Answered:
    return asked(doc_id, "no" if documents()[doc_id]["answer"] == "yes" else "yes")


@pytest.fixture(autouse=True)
def outside_github(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    good = gate_run(tmp_path / "good", [right(number) for number in range(QUESTIONS)])
    assert main(["regress", str(good), "--baseline", str(path), "--update"]) == 0
    return path


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


def bad_run(tmp_path: Path, first: Answered) -> str:
    return str(gate_run(tmp_path / "bad", [first, *(right(number) for number in range(1, QUESTIONS))]))


def test_an_unchanged_run_passes(baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = tmp_path / "out" / "junit.xml"
    assert main(["regress", str(tmp_path / "good"), "--baseline", str(baseline), "--junit", str(junit)]) == 0
    printed = capsys.readouterr()
    assert f"passed: {QUESTIONS} questions, every answer is the baseline's" in printed.out
    assert "::" not in printed.out
    (suite,) = Xml.parse(junit).getroot()
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (TASK, str(QUESTIONS + 1), "0")
    assert not suite.findall("*/failure")


def test_an_answer_that_moved_is_a_regression(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "junit.xml"
    run = bad_run(tmp_path, wrong(0))
    assert main(["regress", run, "--baseline", str(baseline), "--junit", str(junit)]) == 1
    printed = capsys.readouterr().out
    assert f"regression: 1 of {QUESTIONS} answers got worse or were lost" in printed
    assert f"{TASK}/0" in printed
    assert f"dualfocus regress {run} --baseline {baseline} --update" in printed
    (case,) = (case for case in Xml.parse(junit).getroot().iter("testcase") if case.find("failure") is not None)
    assert case.get("name") == f"{TASK}/0"
    # What is meant becomes the next baseline.
    assert main(["regress", run, "--baseline", str(baseline), "--update"]) == 0
    assert main(["regress", run, "--baseline", str(baseline)]) == 0


def test_github_gets_annotations_and_a_summary(
    baseline: Path, tmp_path: Path, github: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["regress", str(tmp_path / "good"), "--baseline", str(baseline)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")] == [
        f"::notice title=dualfocus regress::passed: {QUESTIONS} questions, every answer is the baseline's"
    ]
    assert main(["regress", bad_run(tmp_path, wrong(0)), "--baseline", str(baseline)]) == 1
    annotations = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert [line.startswith("::error title=dualfocus regress::") for line in annotations] == [True, True]
    assert f"{TASK}/0" in annotations[1]
    summary = github.read_text()
    assert summary.count("### dualfocus regress") == 2
    assert f"| {TASK} | {QUESTIONS} | 100.0 | 91.7 | -8.3 |" in summary


def test_a_summary_that_cannot_be_written_costs_only_itself(
    baseline: Path, tmp_path: Path, github: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    github.mkdir()
    for run, status in ((str(tmp_path / "good"), 0), (bad_run(tmp_path, wrong(0)), 1), (str(tmp_path / "none"), 2)):
        capsys.readouterr()
        assert main(["regress", run, "--baseline", str(baseline)]) == status
        printed = capsys.readouterr()
        warnings = [line for line in printed.out.splitlines() if line.startswith("::warning")]
        assert len(warnings) == 1
        assert "the step's summary cannot be written" in warnings[0]
        assert str(github) in warnings[0]
        assert "Traceback" not in printed.err


def test_no_answer_can_break_out_of_what_ci_shows(
    baseline: Path, tmp_path: Path, github: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "junit.xml"
    capsys.readouterr()
    assert (
        main(
            ["regress", bad_run(tmp_path, asked(0, f"no {NASTY}")), "--baseline", str(baseline), "--junit", str(junit)]
        )
        == 1
    )
    annotations = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert len(annotations) == 2
    (failure,) = Xml.parse(junit).getroot().iter("failure")
    assert "<script>" in str(failure.text)
    assert "<script>" not in github.read_text()


COMMAND = "x\n::error::y\r##[error]z \x1b[2J"


def changed(baseline: Path, **changes: Any) -> None:
    """The baseline, its provenance being another and sealed anew."""
    kept = load_baseline(baseline)
    save_baseline(replace(kept, provenance=replace(kept.provenance, **changes)), baseline)


def commands_in(text: str) -> list[str]:
    """The lines that GitHub's runner takes for commands, but for our own."""
    lines = [line for line in re.split("[\r\n]", text) if line.lstrip().startswith("::") or "##[" in line]
    return [line for line in lines if not re.match("::(error|notice) title=dualfocus regress::", line)]


def test_no_word_of_a_baseline_or_a_run_is_a_command(
    baseline: Path, tmp_path: Path, github: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**MADE_BY, "batch_size": 16, "processor": COMMAND, "packages": {"torch": COMMAND}}
    changed(baseline, environment=environment, settings={COMMAND: COMMAND}, made=COMMAND)
    capsys.readouterr()
    assert main(["regress", bad_run(tmp_path, wrong(0)), "--baseline", str(baseline)]) == 1
    changed(baseline, checkpoint=f"{COMMAND}-def")
    assert main(["regress", str(tmp_path / "bad"), "--baseline", str(baseline)]) == 2
    odd = tmp_path / f"odd{COMMAND}"
    assert main(["regress", str(odd), "--baseline", str(baseline)]) == 2
    printed = capsys.readouterr()
    assert "another checkpoint" in printed.err
    for text in (printed.out, printed.err, github.read_text()):
        assert commands_in(text) == []
        assert "\x1b" not in text


def test_no_name_breaks_the_xml_of_a_verdict() -> None:
    """Nor does a message."""
    name, answer = "a\x1b\ud800\ufffe<b>", Answer(0, "digest", "\x00", 1.0, 0.5)
    move = Move(name, answer, replace(answer, text=None), False)
    nothing = PairedTest(0, 0, 1.0, 1.0)
    task = TaskVerdict(name, (move.key,), 1.0, 0.0, (move,), nothing, 1.0, (f"{name} is too low",))
    for content in (verdict_xml(Verdict("exact", (), (), (task,), ())), error_xml(name)):
        texts = [
            text for element in Xml.fromstring(content).iter() for text in (element.get("name"), element.get("message"))
        ]
        assert r"a\x1b\ud800" + "\ufffd<b>" in texts


def test_what_cannot_be_judged_is_status_2_and_one_line(
    baseline: Path, tmp_path: Path, github: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "junit.xml"
    other = gate_run(tmp_path / "other", [right(number) for number in range(QUESTIONS)], checkpoint="tiny-other")
    capsys.readouterr()
    assert main(["regress", str(other), "--baseline", str(baseline), "--junit", str(junit)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("dualfocus regress: error: the run is of another checkpoint")
    assert printed.err.count("\n") == 1
    assert "\n::error title=dualfocus regress::cannot judge: the run is of another checkpoint" in printed.out
    (error,) = Xml.parse(junit).getroot().iter("error")
    assert "another checkpoint" in str(error.get("message"))
    assert "Cannot judge: the run is of another checkpoint" in github.read_text()


def test_another_transformers_release_is_another_environment_of_the_same_checkpoint(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "good" / "1_results.json"
    results = json.loads(path.read_text())
    results["config"]["resolved_cli_args"]["dualfocus"]["environment"]["packages"]["transformers"] = "5.24.0"
    path.write_text(json.dumps(results))
    assert main(["regress", str(path), "--baseline", str(baseline)]) == 0
    assert "transformers: 5.24.0 (baseline: None)" in " ".join(capsys.readouterr().out.split())


def test_a_baseline_is_not_made_from_a_run_with_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = right(0)
    trace = replace(
        failed.trace, macro=None, grounding=None, selected=None, decision=None, fallback=None,
        error=Failure("out_of_memory", "no memory"),
    )  # fmt: skip
    run = gate_run(tmp_path / "run", [replace(failed, trace=trace), right(1)])
    assert main(["regress", str(run), "--baseline", str(tmp_path / "new.json"), "--update"]) == 2
    assert "1 questions of" in capsys.readouterr().err
    assert not (tmp_path / "new.json").exists()


def test_an_empty_folder_is_named(tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["regress", str(tmp_path / "empty"), "--baseline", str(baseline)]) == 2
    assert "holds no results" in capsys.readouterr().err


def test_a_damaged_baseline_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: Path) -> None:
    content = json.loads(baseline.read_text())
    content["tasks"][TASK][0] = [0]
    baseline.write_text(json.dumps(content))
    assert main(["regress", str(tmp_path / "good"), "--baseline", str(baseline)]) == 2
    assert f"tasks, {TASK} 1: question is missing" in capsys.readouterr().err


def test_an_unforeseen_error_is_not_a_regression(
    baseline: Path, tmp_path: Path, github: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_: object, **__: object) -> None:
        raise KeyError("two\nlines")

    monkeypatch.setattr(judging, "judge", judge)
    junit = tmp_path / "junit.xml"
    capsys.readouterr()
    with pytest.raises(KeyError):  # the command line makes it status 3
        regress.main([str(tmp_path / "good"), "--baseline", str(baseline), "--junit", str(junit)])
    printed = capsys.readouterr().out
    assert "\n::error title=dualfocus regress::cannot judge: " in printed
    assert "an error in dualfocus-eval itself: KeyError" in printed
    assert len(list(Xml.parse(junit).getroot().iter("error"))) == 1
    assert "Cannot judge" in github.read_text()


def test_results_that_do_not_say_how_much_was_asked_cannot_be_judged(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "good" / "1_results.json"
    results = json.loads(path.read_text())
    del results["n-samples"]
    path.write_text(json.dumps(results))
    assert main(["regress", str(path), "--baseline", str(baseline)]) == 2
    assert "does not say how many questions were asked" in capsys.readouterr().err


def test_of_several_runs_in_a_folder_none_is_judged(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older, better run beside the one that is meant would pass, whatever clocks and names say."""
    bad, good = Path(bad_run(tmp_path, wrong(0))), tmp_path / "good"
    for path in good.glob("1_*"):
        path.rename(bad / path.name.replace("1_", "2_", 1))
    assert main(["regress", str(bad), "--baseline", str(baseline)]) == 2
    printed = capsys.readouterr().err
    for name in ("1_results.json", "2_results.json"):
        assert f"{bad / name} (no date)" in printed
    assert main(["regress", str(bad), "--baseline", str(tmp_path / "new.json"), "--update"]) == 2
    assert not (tmp_path / "new.json").exists()
    assert main(["regress", str(bad / "1_results.json"), "--baseline", str(baseline)]) == 1
    assert f"run: {bad / '1_results.json'}" in capsys.readouterr().out


def test_a_baseline_cut_to_one_question_is_not_a_pass(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(baseline.read_text())
    del content["tasks"][TASK][1:]
    baseline.write_text(json.dumps(content))
    assert main(["regress", str(tmp_path / "good"), "--baseline", str(baseline)]) == 2
    assert f"{QUESTIONS - 1} of the {QUESTIONS} questions of {TASK} are missing ({TASK}/1" in capsys.readouterr().err


def test_limits_of_the_user(baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = bad_run(tmp_path, wrong(0))
    judged = ["regress", run, "--baseline", str(baseline)]
    for limits, status, said in (
        (["--max-drop", "10"], 0, "1 for the worse, as allowed"),
        (["--max-drop", "5"], 1, f"the score of {TASK} fell by 8.3 points: 100.0% -> 91.7%, allowed 5"),
        (["--max-drop", "10", "--min-score", f"{TASK}=92"], 1, f"the score of {TASK} is 91.7%, below 92%"),
    ):
        capsys.readouterr()
        assert main([*judged, *limits]) == status
        assert said in capsys.readouterr().out
    assert main([*judged, "--max-drop", "5", "--update"]) == 2
    assert main([*judged, "--min-score", f"{TASK}=99", "--min-score", f"{TASK}=1"]) == 2
    for wrong_limit in (["--max-drop", "x"], ["--max-drop", "nan"], ["--min-score", "x"], ["--min-score", "x=101"]):
        with pytest.raises(SystemExit, match="2"):
            main([*judged, *wrong_limit])


def test_a_baseline_of_the_package_is_renewed_beside_the_user(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = tmp_path / "package" / "baselines" / "mine.json"
    packaged.parent.mkdir(parents=True)
    baseline.rename(packaged)
    (tmp_path / "work" / "mine").mkdir(parents=True)  # a folder of that name is no baseline
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("dualfocus_eval.gate.packaged.resource_folder", lambda name: tmp_path / "package")
    run, warning = bad_run(tmp_path, wrong(0)), "replaces a baseline of dualfocus-eval itself"
    assert main(["regress", run, "--baseline", "mine"]) == 1
    printed = capsys.readouterr().out
    assert "--baseline mine.json --update" in printed
    assert warning not in printed
    assert main(["regress", run, "--baseline", str(packaged)]) == 1
    assert warning in capsys.readouterr().out
