"""``selection=FILE``: where the file may be named, and which model it may choose for."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.in_process import load_engine
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.harness.arguments import check, resolve
from dualfocus_eval.harness.calibrated import fitting_calibration
from dualfocus_eval.harness.session import Session
from dualfocus_eval.method.selection.calibration import save_calibration
from dualfocus_eval.method.settings import Settings, candidate_settings
from dualfocus_eval.recipe import load_recipe
from tests.calibrations import by_one


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> RunEngine:
    return load_engine(resolve({"pretrained": str(checkpoint)}).engine)


@pytest.fixture
def file(tmp_path: Path, engine: RunEngine) -> Path:
    """A calibration of the model of ``engine``."""
    fitted = by_one("own_difference", model=engine.identity, settings=candidate_settings(asdict(Settings())))
    save_calibration(fitted, tmp_path / "mine.json")
    return tmp_path / "mine.json"


@pytest.fixture
def own(checkpoint: Path, file: Path, tmp_path: Path) -> Path:
    """A checkpoint that brings its own."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    shutil.copyfile(file, folder / "calibration.json")
    named(folder, "calibration.json")
    return folder


def named(folder: Path, selection: str) -> None:
    (folder / "dualfocus.json").write_text(json.dumps({"inference": {"selection": selection}}))


def test_a_file_may_be_an_argument_or_a_recipe_s_or_the_checkpoint_s_own(
    file: Path, own: Path, checkpoint: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("inference: {selection: mine.json}\n")
    given: dict[str, dict[str, Any]] = {
        "argument": {"pretrained": str(checkpoint), "selection": str(file)},
        "recipe": {"pretrained": str(checkpoint), "recipe": str(recipe)},
        "checkpoint": {"pretrained": str(own)},
    }
    for source, arguments in given.items():
        config = resolve(arguments)
        assert config.calibration
        assert config.settings.selection == config.calibration.name
        assert config.sources["selection"] == source
    assert resolve({"pretrained": str(own), "selection": "own_context"}).calibration is None


def test_what_is_trained_by_a_recipe_has_not_its_calibration(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("inference: {selection: mine.json, margin: 3}\n")
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.inference == {"selection": str(tmp_path / "mine.json"), "margin": 3.0}
    assert recipe.taught == {"margin": 3.0}
    (tmp_path / "r.yaml").write_text("inference: {selection: own_context}\n")
    assert load_recipe(tmp_path / "r.yaml").taught == {"selection": "own_context"}


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        ("nowhere.json", "^calibration nowhere.json does not exist; `dualfocus calibrate RUN --out FILE` makes one"),
        ("calibrated_01234567", "is the name of a calibrated choice: give its file, selection=FILE.json"),
        (
            "calibrated",
            r"not one of: own_context, micro_context, released, the file of a calibrated choice \(\*\.json\)",
        ),
    ],
)
def test_a_file_that_is_not_there_is_refused_before_anything_is_loaded(selection: str, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        check({"selection": selection})


def test_a_checkpoint_s_own_has_one_name(own: Path) -> None:
    named(own, "other.json")
    with pytest.raises(UserError, match=r"dualfocus.json, inference, selection: 'other.json' is not calibration.json"):
        resolve({"pretrained": str(own)})
    named(own, "calibration.json")
    (own / "calibration.json").unlink()
    with pytest.raises(UserError, match=r"own/calibration.json does not exist"):
        resolve({"pretrained": str(own)})


def test_it_is_part_of_the_run_s_record(own: Path, tmp_path: Path) -> None:
    config = resolve({"pretrained": str(own), "trace_dir": str(tmp_path / "traces")})
    run = Session(config, Accelerator())
    record = run.record
    run.finish()
    assert config.calibration
    assert record["calibration"] == config.calibration.content
    assert record["settings"]["selection"] == config.calibration.name
    assert not record["warnings"]
    assert json.loads(json.dumps(record["calibration"])) == json.loads((own / "calibration.json").read_text())


def test_one_of_another_model_is_refused(engine: RunEngine) -> None:
    other = by_one("own_difference", model="tiny-llava-0123")
    settings = Settings(selection=other.name)
    for source in ("argument", "recipe"):
        with pytest.raises(UserError, match=rf"{other.name} was fitted on another model, tiny-llava-0123; this one is"):
            fitting_calibration(other, settings, engine, source)


def test_the_checkpoint_s_own_does_not_choose_for_what_an_adapter_makes_of_it(engine: RunEngine) -> None:
    other = by_one("own_difference", model="tiny-llava-0123")
    found, settings, told = fitting_calibration(other, Settings(selection=other.name), engine, "checkpoint")
    assert (found, settings) == (None, Settings())
    (line,) = told
    assert line.endswith("fitted on another model (tiny-llava-0123): not used, selection=micro_context")


def test_other_settings_than_those_of_the_fit_are_told(file: Path, engine: RunEngine) -> None:
    fitted = resolve({"selection": str(file)}).calibration
    assert fitted
    same = Settings(selection=fitted.name)
    assert fitting_calibration(fitted, same, engine, "argument") == (fitted, same, ())
    other = Settings(selection=fitted.name, margin=3, grounding="center", max_thinking_tokens=7)
    _, _, (line,) = fitting_calibration(fitted, other, engine, "argument")
    assert line == (
        f"{fitted.name} was fitted on answers of other settings: grounding text_box -> center, margin 25.0 -> 3.0"
    )


def test_the_checkpoint_s_own_is_of_the_settings_of_its_fit(file: Path, engine: RunEngine) -> None:
    fitted = resolve({"selection": str(file)}).calibration
    assert fitted
    same = Settings(selection=fitted.name)
    assert fitting_calibration(fitted, same, engine, "checkpoint") == (fitted, same, ())
    other = replace(same, second_pass="no_crop")
    found, settings, (line,) = fitting_calibration(fitted, other, engine, "checkpoint")
    assert (found, settings) == (None, Settings(second_pass="no_crop"))
    assert line == (
        "the checkpoint's own calibration was fitted on answers of other settings: second_pass append_crop -> no_crop: "
        "not used, selection=micro_context"
    )


def test_one_that_needs_the_box_in_words_is_refused_where_there_are_none(engine: RunEngine) -> None:
    fitted = by_one("box_nll", model=engine.identity)
    settings = Settings(selection=fitted.name, grounding="tiles")
    with pytest.raises(UserError, match="own words for the region, which grounding=tiles does not have: fit one on"):
        fitting_calibration(fitted, settings, engine, "argument")


def test_one_pathway_alone_has_no_choice(engine: RunEngine) -> None:
    other = by_one("own_difference", model="tiny-llava-0123")
    settings = Settings(selection=other.name, strategy="macro")
    assert fitting_calibration(other, settings, engine, "argument") == (None, settings, ())
