"""``dualfocus check``: what it prints, its JSON, and its exit status for everything that can be off or wrong."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from PIL import Image

from dualfocus_eval.check import checking
from dualfocus_eval.cli import check
from dualfocus_eval.cli.main import main
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.engines.running import EngineInfo, RunEngine
from dualfocus_eval.families import box_conventions
from dualfocus_eval.families.generic import generic_family
from dualfocus_eval.harness.arguments import RunConfig, resolve
from tests.api.conftest import scenes
from tests.check.broken import forget_images
from tests.scripted_engine import ScriptedEngine

__all__ = ["scenes"]

PAGE = Path(__file__).parents[2] / "docs" / "check.md"


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return load_engine(resolve({"batch_size": 8}).engine)


@pytest.fixture
def loaded(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded checkpoint, its caches empty, whatever is asked for."""
    monkeypatch.setattr(check, "_load", lambda config: engine.variant(16, reuse=True))


@pytest.fixture
def not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is repeated, which takes three quarters of the time; other tests look at that."""
    monkeypatch.setattr(checking, "compare_variants", lambda calls, engine: [])


@pytest.fixture
def photos(tmp_path: Path, scenes: list[dict[str, Any]]) -> Path:
    """Eight different images, one of them in a subfolder."""
    scene = Image.open(io.BytesIO(scenes[0]["image"]["bytes"]))
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for number in range(8):
        folder = tmp_path / "photos" / ("more" if number == 7 else "")
        scene.rotate(10 * number).save(folder / f"{number}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, list[str]]:
    """The exit status, what was printed, and the lines on standard error."""
    status = main(["check", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err.splitlines()


def _layout(printed: str) -> list[str]:
    """The words of each line but the first, which names the checkpoint; numbers of another machine count as equal.

    Of the conventions only the checkpoint's own counts, so that the page need not know those of every family.
    """
    lines = [re.sub(r"[\d.,]+(e-\d+)?", "0", line).split() for line in printed.splitlines()[1:]]
    others = {re.sub(r"\d+", "0", name) for name in box_conventions()} - {"unit"}
    return [" ".join(words) for words in lines if words and words[0] not in others and not words[0].startswith("─")]


def test_nothing_is_off_with_the_embedded_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found" / "check.json"
    status, printed, complaints = run(["--json", str(out)], capsys)
    assert (status, complaints) == (0, [])
    for words in (
        "dualfocus-tiny",
        "family llava",
        "prefix reuse yes",
        "image 24 64 64 64 112 x 112",
        "one at a time, no prefix reuse 72 0",
        "Response: [0.",
        "second pass:",
        "| USER: <image: 64 tokens>",
        f"No box is found under {len(box_conventions()) - 1} other conventions.",
        "Nothing is off.",
    ):
        assert words in " ".join(printed.split())
    (configured,) = (line for line in printed.splitlines() if "configured" in line)
    assert configured.split()[:2] == ["unit", "image"]
    assert _layout(printed) == _layout(re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
    found = json.loads(out.read_text())
    assert (Path(found["pretrained"]).name, found["off"]) == ("dualfocus-tiny", [])
    assert found["boxes"]["configured"]["iou"] >= 0.6
    assert found["boxes"]["configured"] == found["boxes"]["readings"][0]
    assert found["second_passes"] == found["questions"] == 24
    assert found["usage"]["first pass"]["peak_bytes"] > 100 << 20
    assert found["usage"]["second pass"]["tokens_reused"] > 0


@pytest.mark.usefixtures("loaded", "not_repeated")
@pytest.mark.parametrize(
    ("wrong", "limit", "named"),
    [
        ("box_convention=qwen2_vl", "8", "pass --model_args box_convention=unit"),
        ("box_frame=padded_square", "12", "pass --model_args box_frame=image"),
    ],
)
def test_a_wrong_setting_of_boxes_is_off(
    wrong: str, limit: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed, complaints = run(["--model_args", wrong, "--limit", limit], capsys)
    (line,) = complaints
    assert status == 1
    assert line.startswith("dualfocus check: off: the boxes fit ")
    assert named in line
    assert "Nothing is off" not in printed


@pytest.mark.usefixtures("loaded", "not_repeated")
@pytest.mark.parametrize(
    ("wrong", "limit", "status", "line"),
    [
        ("box_frame=padded_square", "6", 0, r"unsure: the boxes may fit box_frame=image \(.*6 responses are too few"),
        ("box_convention=gemma4", "2", 1, r"off: the boxes may fit box_convention=unit \(.*give a larger --limit"),
    ],
)
def test_too_few_questions_are_no_proof_that_nothing_is_off(
    wrong: str, limit: str, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, printed, complaints = run(["--model_args", wrong, "--limit", limit], capsys)
    assert found == status
    assert len(complaints) == 1
    assert re.match(f"dualfocus check: {line}", complaints[0])
    assert "Nothing is off" not in printed


@pytest.mark.usefixtures("loaded", "not_repeated")
def test_a_calibrated_choice_that_does_not_apply_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _, printed, complaints = run(["--limit", "2", "--model_args", "margin=25"], capsys)
    assert "the checkpoint's own calibration was fitted on answers of other settings: margin 12.0 -> 25.0" in printed
    assert not any("calibration" in line for line in complaints)


@pytest.mark.usefixtures("loaded", "not_repeated")
def test_a_limit_above_the_number_of_scenes_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, complaints = run(["--limit", "1000"], capsys)
    (line,) = complaints
    scenes = re.search(r"Boxes: (\d+) grounding responses", printed)
    assert status == 0
    assert scenes
    assert line == f"dualfocus check: --limit 1000: there are {scenes[1]} embedded scenes, and all are asked about"


@pytest.mark.usefixtures("loaded")
def test_a_broken_prefix_cache_is_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    forget_images(monkeypatch)
    status, _, complaints = run(["--limit", "3"], capsys)
    assert status == 1
    assert any(
        "answers depend on how" in line and "pass --model_args prefix_cache_gib=0" in line for line in complaints
    )


@pytest.mark.usefixtures("loaded", "not_repeated")
def test_of_own_images_no_object_is_known(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--images", str(photos)]
    status, printed, complaints = run([*arguments, "--model_args", "box_convention=glm4v"], capsys)
    assert status == 1
    assert "the boxes fit box_convention=unit (100% usable), not box_convention=glm4v (0% usable)" in complaints[0]
    assert "Boxes: 8 grounding responses" in printed
    assert "The objects in these images are not known" in printed
    assert run([*arguments, "--limit", "2"], capsys)[::2] == (0, [])
    (photos / "1.png").write_text("no image")
    (photos / "2.png").write_bytes(b"")
    status, _, complaints = run([*arguments, "--limit", "3"], capsys)
    assert status == 1
    assert complaints[0].startswith("dualfocus check: off: 2 of 3 questions failed: bad_image: ")
    assert all(name in complaints[0] for name in ("1.png", "2.png"))


class Remote(ScriptedEngine, RunEngine):
    """An engine in front of a server of which only the API is known."""

    identity, chat_template, thinks = "remote-0", None, False
    family = generic_family("unknown")
    info = EngineInfo("server (unknown)", "unknown", None, None, None)
    key = arithmetic = environment = MappingProxyType({})
    counters = Counters()
    has_logprobs = False
    scoring_problem = "this engine cannot score given texts"


def test_what_an_engine_cannot_tell_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        check, "_load", lambda config: Remote(lambda conversation: "[0.1, 0.1, 0.5, 0.5]", size=KeyError())
    )
    status, printed, complaints = run(["--limit", "2"], capsys)
    assert status == 1
    assert complaints[0].startswith(
        "dualfocus check: off: a run with these arguments is refused: the server returns no"
    )
    for words in ("engine server", "Tokens are not known to this engine.", "qwen2_5_vl: needs the encoded size"):
        assert words in " ".join(printed.split())
    for words in ("Agreement", "  | ", "device", "dtype"):
        assert words not in printed


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(config: RunConfig) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(check, "_load", load)


@pytest.mark.usefixtures("not_loaded")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "0"], "--limit 0: give the number of questions, 1 or more"),
        (["--images", "missing"], "--images missing: no such folder"),
        (["--images", "broken/text.jpg"], "--images broken/text.jpg: it is a file; name the folder that holds it"),
        (["--images", "empty"], "--images empty: it holds no image; files end in one of .avif"),
        (["--images", "broken"], "--images broken: none of its images can be opened; the first: broken/text.jpg"),
        (["--json", "empty"], "--json empty cannot be written: it is a folder"),
        (["--json", "broken/text.jpg/x.json"], "--json broken/text.jpg/x.json cannot be written"),
        (["--model_args", "box_convention=unit_box"], "box_convention"),
        (["--model_args", "dtyp=float32"], "Did you mean dtype"),
    ],
)
def test_mistakes_are_one_line_and_load_no_model(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/text.jpg").write_text("no image")
    status, printed, complaints = run(arguments, capsys)
    (line,) = complaints
    assert (status, printed) == (2, "")
    assert line.startswith("dualfocus check: error: ")
    assert words in line
