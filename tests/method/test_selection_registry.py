"""A selection rule that another package registers works everywhere by itself; one that is missing costs only itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import dualfocus_eval
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Table
from dualfocus_eval.gate.baseline import reduce_run
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.outcomes import Outcomes
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.selection import RULES, candidates_of, picks
from dualfocus_eval.method.selection.base import Candidates, Need
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.report.sections.questions import question_section
from dualfocus_eval.report.sections.selection import selection_section
from dualfocus_eval.report.sections.strategies import strategy_section
from dualfocus_eval.tiny.effect import SCENES, difference_table, run_table, score_table
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.store import TraceStore
from tests.analysis.runs import Answered, answered, read_with, run_of, scene, write_run
from tests.gate.gate import gate_run, question, read_gate_run
from tests.method.test_pipeline import ask
from tests.method.test_pipeline import rule as said_by
from tests.scripted_engine import ScriptedEngine


@dataclass(frozen=True)
class Shorter:
    """Prefers the answer of fewer tokens."""

    name: str = "shorter"
    label: str = "how long the answers are"
    needs: frozenset[Need] = frozenset()

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        return float(len(candidates.macro.token_ids)), float(len(candidates.micro.token_ids))


def test_no_module_but_its_own_names_a_rule() -> None:
    """Apart from the default, and what becomes of old names. (``released`` is also a prompt set and a crop rule.)"""
    root = Path(dualfocus_eval.__file__).parent
    naming = re.compile(r"['\"](own_context|micro_context)['\"]")
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if naming.search(path.read_text())}
    rules = {f"method/selection/{module}.py" for module in ("own_context", "micro_context")}
    assert found == rules | {"method/settings.py", "common/old_names.py"}


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> str:
    rule = Shorter()
    monkeypatch.setitem(RULES.items, rule.name, rule)
    return rule.name


class Raising(Shorter):
    """Raises for one question."""

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        if candidates.macro.text == "blue":
            raise ZeroDivisionError("no tokens")
        return super().costs(candidates)


@pytest.mark.parametrize("selection", ["own_context", "shorter"])
def test_what_a_rule_raises_costs_its_own_choice_of_that_question(
    selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES.items, "shorter", Raising())
    engine = ScriptedEngine(said_by(macro="blue", micro="red"))
    (trace,) = answer([ask()], engine, Settings(selection=selection))
    assert set(trace.picks) == {"own_context", "micro_context", "released"}
    decided = selection == "own_context"
    assert (trace.fallback, trace.decision) == ((None, "nll") if decided else ("scoring_failed", "no_scores"))


class Longer(Shorter):
    """What a package may make of its rule in a later version, under the same name."""

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        return -float(len(candidates.macro.token_ids)), -float(len(candidates.micro.token_ids))


def test_a_stored_answer_is_decided_by_the_rule_as_it_is_now(
    shorter: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, settings = ScriptedEngine(said_by(macro="blue", micro="red")), Settings(selection=shorter)
    with TraceStore(tmp_path, "key") as store:
        (before,) = answer([ask()], engine, settings, store=store)
    monkeypatch.setitem(RULES.items, shorter, Longer())
    with TraceStore(tmp_path, "key") as store:
        (after,) = answer([ask()], engine, settings, store=store)
        assert store.reused == 1
    assert (before.text, after.text) == ("red", "blue")
    assert [trace.picks["released"] for trace in (before, after)] == ["micro", "micro"]


def rows() -> list[Answered]:
    """Right are ``red``, shorter than ``blue``, and ``green``, longer; every rule of this package takes micro."""
    texts = [("blue", "red"), ("blue", "green"), ("red", "blue")]
    found = [
        answered(SCENES, scene(i, right), macro, micro, doc_id=i, image=str(i), nlls=(2.0, 1.0))
        for i, ((macro, micro), right) in enumerate(zip(texts, ("red", "green", "red"), strict=True))
    ]
    return [replace(row, trace=_with_picks(row.trace)) for row in found]


def _with_picks(trace: Trace) -> Trace:
    candidates = candidates_of(trace)
    assert candidates
    return replace(trace, picks={**dict.fromkeys(RULES.items, "micro"), **picks(candidates)})


def cells(table: Table, column: str) -> list[str]:
    place = table.header.index(column)
    return [str(row[place]) for row in table.rows]


def test_it_is_a_model_argument(shorter: str) -> None:
    assert resolve({"selection": shorter}).settings.selection == shorter
    assert not Settings(selection=shorter, score_all=False).scores_candidates


def test_a_question_records_what_it_picks_and_compares(shorter: str) -> None:
    engine = ScriptedEngine(said_by(macro="blue", micro="red"))
    (trace,) = answer([ask()], engine, Settings(selection=shorter, score_all=False))
    assert (trace.text, trace.picks[shorter], engine.scored) == ("red", "micro", [])
    outcomes = Outcomes()
    outcomes.add_trace(trace, shorter)
    row = outcomes.rows[trace.key]
    assert (row["rule"], row["nll_macro"], row["nll_micro"]) == (shorter, 5, 4)


def test_it_decides_a_run_and_has_its_column_in_every_table(shorter: str) -> None:
    run = run_of(rows(), shorter)
    assert run.answers["selected"].tolist() == ["micro", "macro", "macro"]
    assert run.rules == ("own_context", "micro_context", "released", shorter)
    strategies = strategy_section(run).tables["strategies"]
    assert cells(strategies, f"{shorter} *")[0].startswith("66.7")
    assert cells(strategies, "own_context")[0].startswith("66.7")
    assert any(f"{shorter}: how long the answers are." in note for note in strategies.notes)
    selection = selection_section(run).tables
    assert cells(selection["selection"], shorter)[0].startswith("66.7")
    assert cells(selection["regret"], shorter)[0].startswith("+33.3")
    questions = question_section(run).tables["questions"]
    assert "how long the answers are" in questions.notes[-1]
    assert cells(questions, "PPL macro")[0] != ""


def test_its_needs_may_be_any_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = replace(Shorter(), needs=["micro_context_scores"])  # type: ignore[arg-type]
    monkeypatch.setitem(RULES.items, "shorter", listed)
    assert run_of(rows()).rules == ("own_context", "micro_context", "released", "shorter")


def test_it_is_in_the_tables_of_the_demonstration(shorter: str) -> None:
    run = run_of(rows(), shorter)
    scores = score_table(run)
    assert dict(zip(cells(scores, "question"), cells(scores, shorter), strict=True))["all"].startswith("66.7")
    assert f"all: {shorter} - macro" in cells(difference_table(run), "difference")
    assert f"{shorter} (from: recipe)" in cells(run_table(run), "value")


def test_the_gate_knows_how_close_its_choice_was(shorter: str, tmp_path: Path) -> None:
    row = question(0, "no", micro="yes", gap=50.0)
    run = _gate(tmp_path, [replace(row, trace=replace(row.trace, picks=dict.fromkeys(RULES.items, "macro")))], shorter)
    ((answer,),) = reduce_run(run).tasks.values()
    assert answer.gap == 1  # tokens


def test_the_gate_does_not_know_how_close_the_choice_of_a_rule_was_that_is_not_installed(
    shorter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = question(0, "no", micro="yes")
    rows = [replace(row, trace=replace(row.trace, picks={shorter: "micro"})), question(1, "no", gap=0.25)]
    monkeypatch.delitem(RULES.items, shorter)
    folder = gate_run(tmp_path / "run", rows, settings={"selection": shorter})
    ((by_rule, other),) = reduce_run(read_gate_run(folder, rows)).tasks.values()
    assert math.isnan(by_rule.gap)
    assert other.gap == 0.25


def _gate(folder: Path, answers: Sequence[Answered], rule: str) -> Run:
    return read_gate_run(gate_run(folder / "run", answers, settings={"selection": rule}), answers)


def test_a_rule_that_is_not_installed_is_known_by_its_picks(
    shorter: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = rows()
    folder = write_run(tmp_path / "run", answers, shorter)
    monkeypatch.delitem(RULES.items, shorter)
    run = read_with(folder, answers)
    assert run.answers["selected"].tolist() == ["micro", "macro", "macro"]
    assert run.rules == ("own_context", "micro_context", "released", shorter)
    strategies = strategy_section(run).tables["strategies"]
    assert cells(strategies, f"{shorter} *")[0].startswith("66.7")
    assert f"Not installed here, and known only by the picks in the traces: {shorter}." in strategies.notes
    questions = question_section(run).tables["questions"]
    assert set(cells(questions, "PPL macro")) == {""}
    assert "not installed" in questions.notes[-1]
    assert cells(selection_section(run).tables["selection"], shorter)[0].startswith("66.7")
