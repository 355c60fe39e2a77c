"""What holds for any records: boxes contain what they should, nothing raises, counts add up."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.common.geometry import union
from dualfocus_eval.curation.annotations import ImageData, ImageObjects, PixelBox, image_data, referents
from dualfocus_eval.curation.filtering import Excluded, Kept, covered, judge
from dualfocus_eval.curation.names import head_nouns, is_plural, kind_of
from dualfocus_eval.curation.reasons import Reason
from dualfocus_eval.curation.run import curate
from dualfocus_eval.curation.settings import CurationSettings
from dualfocus_eval.method.boxes import parse_box

SIZE = (200, 150)
names = st.sampled_from(["man", "men", "woman", "person", "cup", "red cups", "cup of tea", "", "猫", "\ud83d"])
numbers = st.integers(-50, 400) | st.floats(allow_nan=True) | st.sampled_from([None, "3", True, [], 10**400])
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def sometimes(sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(sound, sound, sound, odd)


def objects(extent: st.SearchStrategy[Any], *, whole: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Records of objects; ``whole`` ones always have their box."""
    extents: dict[str, st.SearchStrategy[Any]] = dict.fromkeys("xywh", extent)
    keys = {} if whole else dict(extents)
    keys |= {"object_id": sometimes(st.integers(0, 9)), "names": sometimes(st.lists(names, max_size=2))}
    return st.fixed_dictionaries(
        extents if whole else {}, optional=keys | {"synsets": sometimes(st.lists(names, max_size=2))}
    )


def questions(referred: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    lists = ("q_objects", "a_objects", "question_objects", "answer_synsets")
    keys: dict[str, st.SearchStrategy[Any]] = {name: sometimes(st.lists(referred, max_size=3)) for name in lists}
    keys |= {
        name: sometimes(st.sampled_from(["Red.", "What is the man doing?", ""])) for name in ("question", "answer")
    }
    keys |= {"qa_id": sometimes(st.integers(0, 30)), "image_id": sometimes(st.integers(0, 3))}
    return st.fixed_dictionaries({}, optional=keys)


class OneImage:
    """Records of an image that are given at once."""

    def __init__(self, listed: list[Any] | None, region: PixelBox | None = None) -> None:
        self.image_id: int | None = 1
        self.data: ImageData | None = ImageData(*SIZE, "VG_100K/1.jpg")
        self.objects = None if listed is None else ImageObjects(listed)
        self.region = region

    def region_of(self, qa_id: int) -> PixelBox | None:
        return self.region


sound_objects = objects(st.integers(1, 60), whole=True)


@settings(max_examples=400)
@given(asked=st.lists(sound_objects, min_size=1, max_size=4), answered=st.lists(sound_objects, max_size=3))
def test_the_box_contains_all_that_is_referred_to(asked: list[Any], answered: list[Any]) -> None:
    record = {"qa_id": 1, "question": "What?", "answer": "That.", "q_objects": asked, "a_objects": answered}
    verdict = judge(record, OneImage([]), CurationSettings())
    boxes = [(r["x"], r["y"], r["x"] + r["w"], r["y"] + r["h"]) for r in (*asked, *answered)]
    assert all(covered(box, union(boxes)) == 1 for box in boxes)
    if isinstance(verdict, Kept):
        x1, y1, x2, y2 = (v * s for v, s in zip(vars(verdict.box).values(), SIZE * 2, strict=True))
        assert (x1, y1, x2, y2) == pytest.approx(union(boxes))
        crop = verdict.crop
        assert all(
            crop.left <= a and crop.top <= b and crop.right >= min(c, SIZE[0]) and crop.bottom >= min(d, SIZE[1])
            for a, b, c, d in boxes
        )
    else:
        # No object is listed, so that nothing can be ambiguous.
        assert verdict.reason in (Reason.UNCHECKED, Reason.TOO_SMALL)


@settings(max_examples=400)
@given(st.lists(sound_objects, max_size=12), st.lists(sound_objects, min_size=1, max_size=2))
def test_what_is_kept_has_no_double_outside_and_can_be_written(listed: list[Any], asked: list[Any]) -> None:
    record = {"qa_id": 1, "question": "What?", "answer": "That.", "q_objects": asked}
    verdict = judge(record, OneImage(listed), CurationSettings(overlap=0.7))
    if isinstance(verdict, Kept):
        box = tuple(v * s for v, s in zip(vars(verdict.box).values(), SIZE * 2, strict=True))
        known = ImageObjects(listed)
        for referent in referents(record)[0]:
            for other in known.alike(referent.kind):
                assert other.box is None or covered(other.box, box) >= 0.7 - 1e-9
        written = "[" + ", ".join(f"{value:.2f}" for value in vars(verdict.box).values()) + "]"
        assert parse_box(written, image_size=SIZE).box is not None


@settings(max_examples=400)
@given(
    qa=odd | questions(objects(numbers) | odd),
    listed=st.none() | st.lists(objects(numbers) | odd, max_size=6),
    region=st.none() | st.just((10.0, 10.0, 50.0, 50.0)),
)
def test_no_record_makes_it_raise(qa: Any, listed: list[Any] | None, region: PixelBox | None) -> None:
    verdict = judge(qa, OneImage(listed, region), CurationSettings())
    assert isinstance(verdict, (Kept, Excluded))
    for text in (verdict.question, verdict.answer) if isinstance(verdict, Kept) else (verdict.detail,):
        text.encode()


@given(st.dictionaries(st.sampled_from(["width", "height", "url", "file_name"]), numbers | st.text(max_size=20)))
def test_no_image_entry_makes_it_raise_or_leave_the_folder(record: dict[str, Any]) -> None:
    found = image_data(record, 7)
    assert found is None or (min(found.width, found.height) >= 1 and ".." not in found.path.split("/"))
    assert found is None or not found.path.startswith("/")


@given(st.text(max_size=30))
def test_names_are_alike_to_themselves(name: str) -> None:
    kind = kind_of((name,), ())
    assert is_plural(name) in (True, False)
    assert not head_nouns(name) or kind.sought & kind.listed


ordinary = st.sampled_from(["person", "man", "girl", "cup", "cups", "sofa", "leg of chair", "players", "cat and dog"])


@given(ordinary, ordinary)
def test_being_alike_is_mutual(first: str, second: str) -> None:
    one, two = kind_of((first,), ()), kind_of((second,), ())
    assert bool(one.sought & two.listed) == bool(two.sought & one.listed)


@settings(max_examples=40)
@given(
    pages=st.lists(
        st.fixed_dictionaries({"id": sometimes(st.integers(0, 3)), "qas": st.lists(questions(objects(numbers)) | odd)}),
        min_size=1,
        max_size=4,
    ),
    listed=st.lists(objects(numbers), max_size=4),
)
def test_counts_add_up(pages: list[Any], listed: list[Any]) -> None:
    content: dict[str, Any] = {
        "question_answers": pages,
        "objects": [{"image_id": number, "objects": listed} for number in range(3)],
        "image_data": [{"image_id": number, "width": 200, "height": 150} for number in range(4)],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, entries in content.items():
            (Path(folder) / f"{name}.json").write_text(json.dumps(entries))
        tally = curate(Path(folder), Path(folder) / "out", CurationSettings())
        samples = json.loads((Path(folder) / "out/samples.json").read_text(encoding="utf-8"))
    assert tally.samples + tally.excluded.total() == tally.read == sum(len(page["qas"]) for page in pages)
    assert len(samples) == tally.samples
