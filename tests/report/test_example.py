"""The choice of the example, and its picture."""

from pathlib import Path

import pytest
from PIL import Image

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.report.example import draw_example
from dualfocus_eval.tiny.effect import SCENES, choose_example
from tests.analysis.runs import answered, run_of, scene


def test_the_first_question_by_id_that_zooming_saves() -> None:
    both_right = answered(SCENES, scene(1, "red"), "red", "red", doc_id=0)
    unselected = answered(
        SCENES,
        scene(2, "red"),
        "blue",
        "red",
        doc_id=1,
        picks={"own_context": "macro", "micro_context": "micro", "released": "micro"},
    )
    saved = answered(SCENES, scene(3, "red"), "blue", "red", doc_id=2)
    later = answered(SCENES, scene(4, "red"), "blue", "red", doc_id=3)
    without_box = answered(SCENES, scene(0, "red"), "red", None, doc_id=4)
    everything = [later, saved, unselected, both_right, without_box]
    assert choose_example(run_of(everything)) == saved.trace.key
    assert choose_example(run_of(everything, "micro_context")) == unselected.trace.key
    assert choose_example(run_of([unselected, both_right, without_box])) == unselected.trace.key
    assert choose_example(run_of([both_right, without_box])) == both_right.trace.key
    assert choose_example(run_of([without_box])) is None


def test_the_picture_shows_box_and_both_views(tmp_path: Path, checkpoint: Path) -> None:
    near = answered(SCENES, scene(1, "red"), "blue", "red", box=Box(0.1, 0.1, 0.3, 0.5))
    run = run_of([near], pretrained=str(checkpoint))
    draw_example(run, near.trace.key, tmp_path / "deep" / "example.png")
    with Image.open(tmp_path / "deep" / "example.png") as picture:
        assert picture.width > 1000
        drawn = picture.convert("RGB")
    # The scene is white, so the box is the only thing of its colour above the captions.
    columns = [
        x for x in range(drawn.width) for y in range(drawn.height // 2) if drawn.getpixel((x, y)) == (214, 51, 108)
    ]
    assert min(columns) < max(columns) < drawn.width / 2
    draw_example(run, near.trace.key, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "deep" / "example.png").read_bytes()


def test_a_question_with_one_candidate_cannot_be_drawn(tmp_path: Path) -> None:
    alone = answered(SCENES, scene(1, "red"), "red", None)
    with pytest.raises(ValueError, match="no micro candidate"):
        draw_example(run_of([alone]), alone.trace.key, tmp_path / "example.png")
