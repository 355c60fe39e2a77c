"""Fitting a choice on a run, and judging it on another: images, refusals, the gap that it closes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dualfocus_eval.analysis.calibrating import FOLDS, calibrate, folds_of
from dualfocus_eval.analysis.choices import rule_choice, scores_of
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.gate.baseline import _closest_calls
from dualfocus_eval.method.selection.calibration import Calibration
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.calibration import calibration_section
from dualfocus_eval.report.sections.strategies import strategy_section
from dualfocus_eval.tiny.effect import SCENES
from dualfocus_eval.traces.record import ContextScores
from tests.analysis.runs import Answered, answered, read_with, scene, write_run
from tests.calibrations import by_one

MODEL = "tiny-1234"


def question(number: int, *, images: int = 40, begin: int = 0) -> Answered:
    """Micro is right where its box is small and macro where it is large; perplexities say nothing."""
    small = number % 2 == 0
    answers = ("blue", "red") if small else ("red", "blue")
    nlls = (0.1 + 0.01 * (number * 37 % 50), 0.1 + 0.01 * (number * 53 % 50))
    side = 0.1 + 0.01 * (number % 5) + (0 if small else 0.4)
    image = f"{begin + number % images:016x}"
    row = answered(
        SCENES, scene(number, "red"), *answers, doc_id=number, image=image, nlls=nlls,
        box=Box(0.1, 0.1, 0.1 + side, 0.1 + side),
    )  # fmt: skip
    return replace(row, trace=replace(row.trace, scores=ContextScores("answer", (-nlls[1],), (-nlls[0],))))


def questions(count: int = 160, **given: int) -> list[Answered]:
    return [question(number, **given) for number in range(count)]


def recorded(folder: Path, **changes: Any) -> Path:
    """The run in ``folder``, its model's record changed."""
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    record = results["config"]["resolved_cli_args"]["dualfocus"]
    settings = record["settings"] | changes.pop("settings", {})
    results["config"]["resolved_cli_args"]["dualfocus"] = record | changes | {"settings": settings}
    path.write_text(json.dumps(results))
    return folder


def written(folder: Path, answers: Sequence[Answered], **changes: Any) -> Path:
    return recorded(write_run(folder, answers), **({"checkpoint": MODEL} | changes))


@pytest.fixture(scope="module")
def fitted_on(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, list[Answered]]:
    answers = questions()
    folder = written(tmp_path_factory.mktemp("fit") / "run", answers)
    return folder, read_with(folder, answers), answers


@pytest.fixture(scope="module")
def fitted(fitted_on: tuple[Path, Run, list[Answered]]) -> Calibration:
    folder, run, _ = fitted_on
    return calibrate(run, folder)


def shown(section: Section, name: str) -> list[Mapping[str, Any]]:
    table = section.tables[name]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def test_what_can_be_learned_is_learned(fitted: Calibration) -> None:
    weights = {term.feature: term.coefficient for term in fitted.kinds["short"].terms}
    assert max(weights, key=lambda name: abs(weights[name])) == "box_area"
    assert weights["box_area"] < 0
    assert fitted.validation.scores["calibrated"][0] == 100.0
    assert fitted.validation.closed == (1.0, 1.0, 1.0)
    assert (fitted.model, [*fitted.kinds], fitted.unfitted, len(fitted.images)) == (MODEL, ["short"], (), 40)
    (task,) = fitted.tasks.values()
    assert (task.questions, task.differing) == (160, 160)
    assert "selection" not in fitted.settings
    assert fitted.settings["margin"] == 25.0


def test_the_same_run_gives_the_same_file(fitted: Calibration, fitted_on: tuple[Path, Run, list[Answered]]) -> None:
    folder, run, _ = fitted_on
    assert calibrate(run, folder) == fitted


def test_folds_share_no_image() -> None:
    clusters = pd.Series([f"{number % 17}" for number in range(120)])
    folds = folds_of(clusters)
    assert len(folds) == FOLDS
    assert (np.sum(folds, axis=0) == 1).all()
    images = [set(clusters[fold]) for fold in folds]
    assert sum(map(len, images)) == len(set.union(*images)) == 17


def test_it_is_judged_on_other_images(fitted: Calibration, tmp_path: Path) -> None:
    answers = questions(80, images=20, begin=1000)
    run = read_with(written(tmp_path / "run", answers), answers, fitted)
    assert scores_of(run.answers, rule_choice(fitted.name)).mean() == 1.0
    assert fitted.name in strategy_section(run).tables["strategies"].header
    section = calibration_section(run)
    task, both = shown(section, "calibrated_choice")
    assert (both["task"], both["n"], both["images"]) == ("all", 80, 20)
    assert both["calibrated"].value == both["oracle"].value == 100.0
    assert (both["gap closed"].value, both["gap closed"].unit) == (100.0, "%")
    assert both["score"].value < 100 == both["calibrated"].value
    assert task["best rule"] in run.rules
    assert "left out are 0 of 80" in section.text
    assert not any("fitted on" in str(fault) for fault in run.faults)


def test_images_of_the_fit_are_left_out_and_counted(fitted: Calibration, tmp_path: Path) -> None:
    answers = questions(80, images=40, begin=20)
    run = read_with(written(tmp_path / "run", answers), answers, fitted)
    section = calibration_section(run)
    (_, both) = shown(section, "calibrated_choice")
    assert (both["n"], both["images"]) == (40, 20)
    assert "left out are 40 of 80" in section.text
    assert any(str(fault).startswith("40 questions are about images that the calibrated") for fault in run.faults)


def test_it_refuses_to_be_judged_on_the_images_that_it_was_fitted_on(
    fitted: Calibration, fitted_on: tuple[Path, Run, list[Answered]]
) -> None:
    folder, _, answers = fitted_on
    section = calibration_section(read_with(folder, answers, fitted))
    assert "calibrated_choice" not in section.tables
    assert "this run does not judge it" in section.text


def test_a_run_that_it_decided_is_read_without_its_file(fitted: Calibration, tmp_path: Path) -> None:
    """Its samples are what it selected; the run's record holds it whole."""
    answers = questions(80, images=20, begin=1000)
    decided = [replace(one, trace=replace(one.trace, selected=_better(one))) for one in answers]
    folder = write_run(tmp_path / "run", answers)
    samples = "".join(json.dumps(answer.sample) + "\n" for answer in decided)
    (folder / f"1_samples_{SCENES}.jsonl").write_text(samples)
    recorded(folder, checkpoint=MODEL, calibration=fitted.content, settings={"selection": fitted.name})
    run = read_with(folder, decided)
    assert run.answers["traced"].all()
    assert run.calibration == fitted
    assert (run.answers["score_selected"] == 1.0).all()
    assert "oracle" in run.choices
    assert calibration_section(run).tables
    assert _closest_calls(run.answers, run.settings).notna().sum() == run.answers["gap"].notna().sum()
    with pytest.raises(UserError, match=f"was decided by {fitted.name}"):
        read_with(folder, decided, by_one("own_difference"))
    recorded(folder, calibration=fitted.content | {"unfitted": ["open"]})
    with pytest.raises(UserError, match="the calibration of the run was changed"):
        read_with(folder, decided)


def _better(one: Answered) -> Any:
    return "micro" if one.trace.micro and one.trace.micro.text == "red" else "macro"


def test_one_of_another_model_is_refused(fitted: Calibration, tmp_path: Path) -> None:
    answers = questions(4)
    folder = written(tmp_path / "run", answers, checkpoint="tiny-9999")
    with pytest.raises(UserError, match="was fitted on another model, tiny-1234; this one is tiny-9999"):
        read_with(folder, answers, fitted)
    recorded(folder, checkpoint="moved-1234")
    assert read_with(folder, answers, fitted).calibration == fitted


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"checkpoint": None}, "does not say which model ran"),
        ({"settings": {"strategy": "macro"}}, "no question with two answers"),
        ({"settings": {"adaptive_nll": 0.5}}, "no question with two answers"),
    ],
)
def test_a_run_with_nothing_to_choose_is_refused(tmp_path: Path, changes: dict[str, Any], wanted: str) -> None:
    answers = questions(20)
    folder = written(tmp_path / "run", answers, **changes)
    if changes.get("checkpoint", "") is None:
        path = folder / "1_results.json"
        path.write_text(path.read_text().replace('"checkpoint": null, ', "").replace(', "checkpoint": null', ""))
    with pytest.raises(UserError, match=wanted):
        calibrate(read_with(folder, answers), folder)


def test_too_few_questions_are_refused(tmp_path: Path) -> None:
    answers = questions(8)
    folder = written(tmp_path / "run", answers)
    with pytest.raises(UserError, match=r"a fit needs 10 images, .* this run is about 8 images: run more questions"):
        calibrate(read_with(folder, answers), folder)
    unscored = [replace(one, trace=replace(one.trace, scores=None)) for one in questions(40)]
    folder = written(tmp_path / "unscored", unscored)
    with pytest.raises(UserError, match="no question with two answers that were both scored"):
        calibrate(read_with(folder, unscored), folder)


def test_a_kind_with_too_few_questions_is_not_fitted(tmp_path: Path) -> None:
    """Its questions keep the macro answer, in a run and in the folds; a fit of nothing else is refused."""
    rare = [question(number) for number in range(1000, 1008, 2)]
    rare = [replace(one, trace=replace(one.trace, kind="open")) for one in rare]
    folder = written(tmp_path / "run", [*questions(), *rare])
    fitted = calibrate(read_with(folder, [*questions(), *rare]), folder)
    assert ([*fitted.kinds], fitted.unfitted) == (["short"], ("open",))
    assert fitted.validation.scores["calibrated"][0] == pytest.approx(100 * 160 / 164, abs=1e-3)
    sided = [question(number) for number in range(0, 80, 2)]
    folder = written(tmp_path / "sided", sided)
    with pytest.raises(UserError, match="5 with the better micro answer and 5 with the better macro answer"):
        calibrate(read_with(folder, sided), folder)


def test_a_feature_that_no_question_has_is_left_out(fitted: Calibration, tmp_path: Path) -> None:
    assert "grounding_response" in fitted.needs
    silent = [replace(one, trace=replace(one.trace, grounding=_silent(one))) for one in questions()]
    folder = written(tmp_path / "run", silent)
    found = calibrate(read_with(folder, silent), folder)
    assert {term.feature for term in fitted.kinds["short"].terms} - {
        term.feature for term in found.kinds["short"].terms
    } == {"box_nll"}
    assert "grounding_response" not in found.needs


def _silent(one: Answered) -> Any:
    """Its grounding by a method that has the model write nothing."""
    assert one.trace.grounding
    return replace(one.trace.grounding, response=None)


def test_a_gap_that_is_none_has_no_share(fitted: Calibration, tmp_path: Path) -> None:
    answers = [question(number, begin=1000) for number in range(0, 40, 2)]  # micro alone is right
    picking = [replace(one, trace=replace(one.trace, picks=dict.fromkeys(one.trace.picks, "micro"))) for one in answers]
    run = read_with(written(tmp_path / "run", picking), picking, fitted)
    (_, both) = shown(calibration_section(run), "calibrated_choice")
    assert math.isnan(both["gap closed"].value)
