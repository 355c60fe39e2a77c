"""Scenes: deterministic, painted as annotated, and asked about without ambiguity."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from dualfocus_eval.cli.main import main
from dualfocus_eval.datasets.vstar import VSTAR, read_question
from dualfocus_eval.tiny.scenes.layout import COLORS, NAMES, Scene, compose, enlarged
from dualfocus_eval.tiny.scenes.questions import (
    DETAIL_KINDS,
    KINDS,
    NEGATIVES,
    SceneQuestion,
    absent_objects,
    ask,
    balanced,
)
from dualfocus_eval.tiny.scenes.render import paint

SCENES = [compose(11, index) for index in range(60)]


def questions(scene: Scene) -> list[SceneQuestion]:
    return ask(scene, random.Random(scene.index))


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    again = compose(11, 5)
    assert again == SCENES[5]
    assert paint(again).tobytes() == paint(SCENES[5]).tobytes()
    assert compose(12, 5) != again


def test_objects_lie_inside_and_apart() -> None:
    for scene in SCENES:
        for number, item in enumerate(scene.items):
            x1, y1, x2, y2 = item.box
            assert 0 <= x1 < x2 <= scene.width
            assert 0 <= y1 < y2 <= scene.height
            for other in scene.items[:number]:
                apart_x = other.box[2] <= x1 or x2 <= other.box[0]
                apart_y = other.box[3] <= y1 or y2 <= other.box[1]
                assert apart_x or apart_y


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_a_sticker_has_its_colour_in_the_picture(shape: str) -> None:
    seen = 0
    for scene in SCENES:
        image = paint(scene)
        for item in scene.items:
            if item.mark and item.mark.kind == "sticker" and item.mark.shape == shape:
                x1, y1, x2, y2 = item.mark.box
                assert image.getpixel(((x1 + x2) // 2, (y1 + y2) // 2)) == COLORS[item.mark.color]
                seen += 1
    assert seen > 5


def test_every_kind_is_asked() -> None:
    kinds = Counter(entry.kind for scene in SCENES for entry in questions(scene))
    assert set(kinds) == set(KINDS)
    assert all(entry.level == ("detail" if entry.kind in DETAIL_KINDS else "global") for entry in questions(SCENES[0]))


def test_an_object_asked_about_by_name_is_the_only_one() -> None:
    for scene in SCENES:
        counts = Counter(item.name for item in scene.items)
        for entry in questions(scene):
            if entry.kind in ("existence", "count", "scene"):
                continue
            named = [name for name in NAMES if re.search(rf"\bthe {name}\b", entry.question)]
            assert len(named) == (2 if entry.kind == "relation" else 1)
            assert all(counts[name] == 1 for name in named)


def test_answers_hold_by_the_annotations_alone() -> None:
    for scene in SCENES:
        by_name = {item.name: item for item in scene.items}
        for entry in questions(scene):
            if entry.kind == "existence":
                name = re.fullmatch(r"Is there an? (\w+) in the image\?", entry.question)
                assert name is not None
                assert entry.answer == ("yes" if name[1] in by_name else "no")
            if entry.kind == "relation":
                match = re.fullmatch(r"Is the (\w+) (to the left of|above) the (\w+)\?", entry.question)
                assert match is not None
                first, second = by_name[match[1]].box, by_name[match[3]].box
                axis = 0 if "left" in match[2] else 1
                assert entry.answer == (
                    "yes" if first[axis] + first[axis + 2] < second[axis] + second[axis + 2] else "no"
                )


def test_the_region_is_the_union_of_the_referents() -> None:
    for scene in SCENES:
        for entry in questions(scene):
            if not entry.referents:
                assert entry.region == (0, 0, scene.width, scene.height)
                continue
            boxes = [scene.items[index].box for index in entry.referents]
            assert entry.region[:2] == (min(b[0] for b in boxes), min(b[1] for b in boxes))
            assert entry.region[2:] == (max(b[2] for b in boxes), max(b[3] for b in boxes))


@pytest.mark.parametrize("split", NEGATIVES)
def test_negatives_are_absent(split: str) -> None:
    for scene in SCENES:
        absent = absent_objects(scene, split, 3, random.Random(0))
        assert len(set(absent)) == 3
        assert not set(absent) & {item.name for item in scene.items}


def test_the_question_does_not_give_the_answer_away() -> None:
    """For each kind, the best guess from the question's words without the object is near the best constant."""
    answers: dict[str, Counter[str]] = {}
    for index in range(400):
        for entry in questions(compose(13, index)):
            if entry.kind in ("mark_color", "mark_shape", "mark_size", "text", "object_color"):
                answers.setdefault(entry.question, Counter())[entry.answer] += 1
    for question, counts in answers.items():
        total = sum(counts.values())
        if total >= 60:
            assert max(counts.values()) / total < (0.7 if "How big" in question else 0.5), question


def test_balanced_keeps_all_and_alternates_kinds() -> None:
    entries = questions(SCENES[0])
    ordered = balanced(entries, random.Random(1))
    assert Counter(map(repr, ordered)) == Counter(map(repr, entries))
    assert len({entry.kind for entry in ordered[:8]}) >= 5


def test_an_enlarged_scene_is_the_same_scene_in_more_pixels() -> None:
    scene = SCENES[3]
    large = enlarged(scene, 3)
    assert (large.width, large.height) == (3 * scene.width, 3 * scene.height)
    for item, larger in zip(scene.items, large.items, strict=True):
        assert larger.box == tuple(3 * side for side in item.box)
        assert (larger.mark is None) == (item.mark is None)
    small, shrunk = paint(scene), paint(large).reduce(3)
    differing = sum(a != b for a, b in zip(small.convert("L").tobytes(), shrunk.convert("L").tobytes(), strict=True))
    assert differing < 0.2 * scene.width * scene.height


def test_details_are_written_in_the_layout_of_vstars_release(tmp_path: Path) -> None:
    assert main(["data", "details", "--out", str(tmp_path / "release"), "--count", "6", "--seed", "3"]) == 0
    rows = list(VSTAR.rows(tmp_path / "release"))
    assert len({row.image.name for row in rows}) == 6
    for row in rows:
        assert read_question(row.values).options
        x1, y1, x2, y2 = row.values["box"]
        assert max(Image.open(row.image.path).size) == 2000
        assert 0 <= x1 < x2 <= 2000
        assert 0 <= y1 < y2 <= 2000
    (tmp_path / "again").mkdir()
    assert main(["data", "details", "--out", str(tmp_path / "again"), "--count", "6", "--seed", "3"]) == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "release")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [["--count", "0"], ["--out", "file/below"]])
def test_details_that_cannot_be_written_are_one_clear_line(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["data", "details", "--out", "out", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert " ".join(options) in line
