"""The example of docs/extending.md, installed as a package of its own, works without an edit of this project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import VipLlavaConfig, VipLlavaForConditionalGeneration

from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import CheckpointError
from dualfocus_eval.families import FAMILIES, family_for
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.selection import RULES
from dualfocus_eval.tiny.effect import difference_table, run_table, score_table
from measurements import random_models
from measurements.exactness import compare, random_checkpoint
from measurements.plain_reference import reference
from tests.integration.conftest import Outcome, Run, read_traces, runner
from tests.random_checkpoints import BOXES, save_random_checkpoint

EXTENSION = Path(__file__).parent.parent / "extension"
REGISTRIES = (FAMILIES, GROUNDING, RULES)
BROKEN = """\
[dualfocus_eval.selection]
broken = no_such_package.rule:RULE

[dualfocus_eval.families]
brokenvl = no_such_package.family:FAMILY
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed into."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--disable-pip-version-check", "--target", folder, EXTENSION], check=True,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `done` is."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def done(site: Path, folder: Path, environment: dict[str, str]) -> Outcome:
    """A run of lmms-eval with the example's grounding method and selection rule."""
    path = os.pathsep.join(filter(None, [str(site), environment.get("PYTHONPATH")]))
    return runner(folder, {**environment, "PYTHONPATH": path})(
        "lmms-eval", "--model", "dualfocus", "--tasks", "df_scenes_mini", "--limit", "8", "--batch_size", "4",
        "--model_args", "grounding=middle,selection=total_nll",
    )  # fmt: skip


@pytest.fixture
def extended(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example is installed for this process, too."""
    monkeypatch.syspath_prepend(site)
    forget()
    yield
    monkeypatch.undo()
    forget()


def forget() -> None:
    """Let the registries look for installed packages anew."""
    invalidate_caches()
    for registry in REGISTRIES:
        vars(registry).pop("_loaded", None)


def test_a_run_uses_its_grounding_method_and_its_rule(done: Outcome) -> None:
    assert done.status == 0, done.output
    settings, sources = done.record["settings"], done.record["settings_from"]
    assert (settings["grounding"], settings["selection"]) == ("middle", "total_nll")
    assert (sources["grounding"], sources["selection"]) == ("argument", "argument")
    traces = read_traces(Path(done.record["traces"]))
    assert len(traces) == 8
    for trace in traces:
        assert trace["grounding"]["method"] == "middle"
        assert trace["grounding"]["response"] is None
        assert trace["grounding"]["box"] == {"x1": 0.25, "y1": 0.25, "x2": 0.75, "y2": 0.75}
        assert trace["micro"] is not None
        assert set(trace["picks"]) >= {"own_context", "micro_context", "total_nll"}


def test_its_rule_is_in_report_gate_and_demonstration(
    done: Outcome, folder: Path, extended: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder / "output"), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    assert "own_context | micro_context | total_nll * | oracle" in page
    assert "total_nll: each answer's total NLL in its own pathway." in page
    assert "ot installed here" not in page + capsys.readouterr().out
    run = read_run(folder / "output")
    assert "released" not in run.rules  # it needs a grounding response, which `middle` does not have
    assert "total_nll" in score_table(run).header
    assert any("total_nll - macro" in str(row) for row in difference_table(run).rows)
    assert any("total_nll (from: argument)" in row for row in run_table(run).rows)
    baseline = str(tmp_path / "baseline.json")
    assert main(["regress", str(folder / "output"), "--baseline", baseline, "--update"]) == 0
    assert main(["regress", str(folder / "output"), "--baseline", baseline]) == 0


def test_a_run_is_reported_and_judged_where_the_package_is_not_installed(
    done: Outcome, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder / "output"), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    assert "own_context | micro_context | total_nll * | oracle" in page
    told = "2 of the run's extensions not installed here (grounding=middle, selection=total_nll)"
    assert told in page.replace("\\", "")
    assert told in capsys.readouterr().out
    baseline = str(tmp_path / "baseline.json")
    assert main(["regress", str(folder / "output"), "--baseline", baseline, "--update"]) == 0
    assert main(["regress", str(folder / "output"), "--baseline", baseline]) == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("selection=total", "'total' is not one of: own_context, micro_context, released, total_nll"),
        ("grounding=midle", "center, random, whole, middle. Did you mean middle?"),
        ("box_convention=per_cent", "gemma4, percent"),
        ("grounding=middle,selection=released", "grounding='middle' does not have: choose another selection rule"),
    ],
)
def test_a_wrong_argument_is_told_the_names_that_it_adds(
    given: str, told: str, extended: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "--tasks", "df_scenes_mini", "--model_args", given]) == 2
    assert told in capsys.readouterr().err


def vip_llava() -> tuple[Any, Any]:
    """ViP-LLaVA is LLaVA with the features of several layers of the vision encoder."""
    model, processor = random_models.ARCHITECTURES["llava"]()
    config = VipLlavaConfig(
        vision_config=model.config.vision_config,
        text_config=model.config.text_config,
        image_token_index=processor.image_token_id,
        vision_feature_layer=[-2, -1],
        image_seq_length=16,
    )
    return VipLlavaForConditionalGeneration(config), processor


@pytest.fixture
def architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(random_models.ARCHITECTURES, "vipllava", vip_llava)
    return "vipllava"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is installed whose modules are not there."""
    info = tmp_path / "broken" / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(BROKEN)
    monkeypatch.syspath_prepend(info.parent)


@pytest.mark.filterwarnings("ignore:selection rule 'broken' is skipped")
def test_its_family_is_evaluated_on_its_benchmark_whatever_is_broken(
    broken: None, extended: None, architecture: str, run_here: Run, tmp_path: Path
) -> None:
    boxes = [f"<{box.strip('[]')}>" for box in BOXES]
    pretrained = save_random_checkpoint(tmp_path / "vip-llava", architecture, boxes=boxes)
    with pytest.warns(RuntimeWarning, match="model family 'brokenvl' is skipped: no_such_package.family:FAMILY"):
        done = run_here(
            "--model_args", f"pretrained={pretrained},selection=total_nll", "--tasks", "my_benchmark",
            "--include_path", EXTENSION / "my_benchmark",
        )  # fmt: skip
    assert done.status == 0, done.output
    assert "accuracy,none" in done.scores["my_benchmark"]
    assert done.record["summary"]["questions"] == 6
    assert done.record["summary"]["boxes_parsed"] > 0
    assert done.record["settings"]["box_convention"] == "percent"
    assert done.record["settings_from"]["box_convention"] == "family"


def test_its_family_computes_as_plain_generate(extended: None, architecture: str) -> None:
    checkpoint = random_checkpoint(architecture, torch.float32)
    result = compare(checkpoint, reference(checkpoint, count=3, longest=8), 3, "on", seed=0)
    assert result.holds(exact=False), result
    assert result.reused > 0


@pytest.mark.filterwarnings("ignore:.*is skipped")
def test_what_is_broken_says_why_when_it_is_asked_for(
    broken: None, extended: None, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "ModuleNotFoundError: No module named 'no_such_package'"
    assert main(["eval", "--tasks", "df_scenes_mini", "--model_args", "selection=broken"]) == 2
    assert f"selection: 'broken' cannot be used: no_such_package.rule:RULE: {why}" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=f"'brokenvl' cannot be used: no_such_package.family:FAMILY: {why}"):
        family_for("brokenvl", "a checkpoint")
