"""What several settings have in common is computed once, and counts for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import Settings, settings_key
from dualfocus_eval.method.sharing import SharingEngine, StoredRun, answer_under_all
from dualfocus_eval.traces.record import Cost, Trace
from dualfocus_eval.traces.store import TraceStore
from tests.method.test_pipeline import ask, picture, prefer, rule, stages
from tests.scripted_engine import ScriptedEngine

GROUNDINGS = ("text_box", "center", "random", "whole", "truth")
MACRO = Settings(strategy="macro")
OTHERS = [Settings(grounding=name) for name in GROUNDINGS]


def asked(count: int = 3) -> list[Question]:
    """Each about an image of its own."""
    return [
        replace(ask(number), images=(picture(size=(200 + number, 100)),), truth=Box(0.5, 0.5, 0.7, 0.9))
        for number in range(count)
    ]


def stored_runs(folder: Path, settings: Sequence[Settings]) -> list[StoredRun]:
    return [
        StoredRun(one, TraceStore(folder / f"{number}", settings_key(one, {}))) for number, one in enumerate(settings)
    ]


def answered(folder: Path, settings: Sequence[Settings], engine: ScriptedEngine, count: int = 3) -> list[list[Trace]]:
    runs, questions = stored_runs(folder, settings), asked(count)
    answer_under_all(questions, engine, runs)
    traces = [[run.store.get(question) for question in questions] for run in runs]
    for run in runs:
        run.store.close()
    return traces  # type: ignore[return-value]


def scripted() -> ScriptedEngine:
    return ScriptedEngine(rule(), nll=prefer("green"))


def test_macro_answers_and_boxes_are_asked_for_once(tmp_path: Path) -> None:
    engine = scripted()
    answered(tmp_path, [MACRO, *OTHERS], engine)
    counts = Counter(stage for call in stages(engine) for stage in call)
    assert counts == {"macro": 3, "response": 3, "micro": 3 * len(OTHERS)}


def test_answers_and_costs_are_those_of_each_setting_alone(tmp_path: Path) -> None:
    together = answered(tmp_path, [MACRO, *OTHERS], scripted())
    for settings, traces in zip([MACRO, *OTHERS], together, strict=True):
        expected = answer(asked(), scripted(), settings, settings_key=settings_key(settings, {}))
        assert [asdict(trace) for trace in traces] == [asdict(trace) for trace in expected]


def test_what_a_second_pass_does_not_show_is_asked_once(tmp_path: Path) -> None:
    engine = scripted()
    answered(tmp_path, [MACRO, *(replace(one, second_pass="no_crop") for one in OTHERS[:4])], engine)
    assert Counter(stage for call in stages(engine) for stage in call) == {"macro": 3, "response": 3, "micro": 3}
    assert sum(map(len, engine.scored)) == 6


def test_stored_macro_answers_are_those_of_settings_that_come_later(tmp_path: Path) -> None:
    before = answered(tmp_path, [MACRO], scripted())
    engine = scripted()
    traces = answered(tmp_path, [MACRO, OTHERS[0]], engine)
    assert Counter(stage for call in stages(engine) for stage in call) == {"response": 3, "micro": 3}
    assert [trace.macro for trace in traces[1]] == [trace.macro for trace in before[0]]
    assert traces[1] == answered(tmp_path / "anew", [MACRO, OTHERS[0]], scripted())[1]


def test_a_failed_macro_answer_is_tried_again(tmp_path: Path) -> None:
    failing = ScriptedEngine(rule(macro=RuntimeError("lost")))
    answered(tmp_path, [MACRO], failing, count=1)
    engine = scripted()
    answered(tmp_path, [MACRO, OTHERS[0]], engine, count=1)
    assert stages(engine)[0] == ["macro"]


def test_a_result_counts_with_its_part_of_its_call(tmp_path: Path) -> None:
    engine = scripted()
    engine.counters.seconds = {"decode": 4.0}
    sharing = SharingEngine(engine)
    questions = asked()
    answer(questions, sharing, MACRO)
    before = sharing.counters
    answer(questions, sharing, MACRO)
    assert Cost.between(before, sharing.counters, 3).images_encoded == 3
    assert engine.counters.images_encoded == 3
    assert sharing.counters.seconds == {"decode": 4.0}


@pytest.mark.parametrize("change", [{"margin": 3.0}, {"grounding": "center"}, {"second_pass": "joint"}])
def test_a_macro_answer_does_not_depend_on_where_else_one_would_look(change: dict[str, object]) -> None:
    assert settings_key(replace(MACRO, **change), {}) == settings_key(MACRO, {})
    assert settings_key(MACRO, {"dtype": "float64"}) != settings_key(MACRO, {})
