"""The questions that a scene answers, each with the region it is about.

Only objects whose name occurs once in the scene are referred to by name, so that no question is ambiguous. What a
question says never gives its answer away: colours, shapes and characters are drawn independently of it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from dualfocus_eval.common.geometry import union
from dualfocus_eval.tiny.scenes.layout import (
    COLORS,
    COMMON,
    GLYPHS,
    NAMES,
    PLACES,
    STICKER_SHAPES,
    STICKER_SIDES,
    Item,
    PixelBox,
    Scene,
)

__all__ = [
    "ANSWERS",
    "DETAIL_KINDS",
    "KINDS",
    "NEGATIVES",
    "NOUNS",
    "SceneQuestion",
    "absent_objects",
    "ask",
    "balanced",
    "existence",
    "some_absent",
    "with_article",
]

KINDS = (
    "existence", "object_color", "count", "relation", "scene",
    "mark_color", "mark_shape", "mark_size", "text",
)  # fmt: skip
NEGATIVES = ("random", "popular", "adversarial")
"""POPE's three ways to choose an absent object."""
ANSWERS = {
    "existence": ("yes", "no"),
    "object_color": tuple(COLORS),
    "count": ("1", "2", "3", "4", "5"),
    "relation": ("yes", "no"),
    "scene": PLACES,
    "mark_color": tuple(COLORS),
    "mark_shape": STICKER_SHAPES,
    "mark_size": tuple(STICKER_SIDES),
    "text": GLYPHS,
}
"""What may be answered to a question of a kind: where the options of a multiple-choice question come from."""
DETAIL_KINDS = ("mark_color", "mark_shape", "mark_size", "text")


@dataclass(frozen=True)
class SceneQuestion:
    """A question, its answer and the region of the image that holds the answer."""

    kind: str
    question: str
    answer: str
    region: PixelBox
    """Union of the objects that the question refers to; the whole image for global questions and absent objects."""
    referents: tuple[int, ...] = ()
    """Indices into ``Scene.items``."""
    evidence: tuple[PixelBox, ...] = ()
    """Where one has to look for the answer: marks or objects; nothing where it is an absence or the whole scene."""

    @property
    def level(self) -> Literal["detail", "global"]:
        """``detail`` where the answer is on a mark too small for the whole image at encoder resolution."""
        return "detail" if self.kind in DETAIL_KINDS else "global"


def ask(scene: Scene, rng: random.Random) -> list[SceneQuestion]:
    """Every question of the scene; of absent objects only some, of each negative split."""
    counts = Counter(item.name for item in scene.items)
    questions = [SceneQuestion("scene", "What kind of place is this?", scene.place, scene.frame)]
    for name, count in counts.items():
        questions.append(_about(scene, name, "count", f"How many {_plural(name)} are there?", str(count)))
    for index, item in scene.distinct:
        questions.append(_about(scene, item.name, "object_color", f"What color is the {item.name}?", item.color))
        questions.extend(_about_mark(index, item))
    questions.extend(_relations(scene.distinct))
    questions.extend(existence(scene, name, True) for name in counts)
    questions.extend(existence(scene, name, False) for name in some_absent(scene, rng))
    return questions


def balanced(questions: list[SceneQuestion], rng: random.Random) -> list[SceneQuestion]:
    """A random order in which every kind is as likely to come early, however many questions of it there are."""
    groups: dict[tuple[str, str], list[SceneQuestion]] = {}
    for entry in questions:
        # These answers take turns too, so that the rarer ones are not drowned.
        answer = entry.answer if entry.kind in ("existence", "relation", "count") else ""
        groups.setdefault((entry.kind, answer), []).append(entry)
    keyed: list[tuple[float, SceneQuestion]] = []
    for group in groups.values():
        rng.shuffle(group)
        keyed.extend((position + rng.random(), entry) for position, entry in enumerate(group))
    return [entry for _, entry in sorted(keyed, key=lambda pair: pair[0])]


def existence(scene: Scene, name: str, present: bool) -> SceneQuestion:
    """POPE's question; its region is the object, or the whole image where there is none (figure 8's global rule)."""
    question = f"Is there {with_article(name)} in the image?"
    if not present:
        return SceneQuestion("existence", question, "no", scene.frame)
    return _about(scene, name, "existence", question, "yes")


def with_article(noun: str) -> str:
    """``a mug``, ``an arrow``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def absent_objects(scene: Scene, split: str, count: int, rng: random.Random) -> list[str]:
    """Up to ``count`` names that the scene does not hold, by POPE's rules.

    ``random``: any; ``popular``: the most frequent over all places; ``adversarial``: those that usually occur in this
    place, then the most frequent.
    """
    present = {item.name for item in scene.items}
    absent = [name for name in NAMES if name not in present]
    rng.shuffle(absent)
    frequency = Counter(name for names in COMMON.values() for name in names)
    if split in ("popular", "adversarial"):
        absent.sort(key=lambda name: -frequency[name])
    if split == "adversarial":
        absent.sort(key=lambda name: name not in COMMON[scene.place])
    return absent[:count]


def some_absent(scene: Scene, rng: random.Random) -> list[str]:
    """Absent objects of every negative split, up to two of each, sorted."""
    return sorted({name for split in NEGATIVES for name in absent_objects(scene, split, 2, rng)})


def _about(scene: Scene, name: str, kind: str, question: str, answer: str) -> SceneQuestion:
    """A question about every object called ``name``."""
    indices = tuple(index for index, item in enumerate(scene.items) if item.name == name)
    boxes = tuple(scene.items[index].box for index in indices)
    return SceneQuestion(kind, question, answer, union(boxes), indices, boxes)


def _about_mark(index: int, item: Item) -> list[SceneQuestion]:
    mark = item.mark
    if mark is None:
        return []
    asked = [("mark_color", f"What color is the {mark.kind} on the {item.name}?", mark.color)]
    if mark.kind == "label":
        asked += [("text", f"What is written on the {item.name}?", mark.shape)]
    else:
        asked += [
            ("mark_shape", f"What shape is the sticker on the {item.name}?", mark.shape),
            ("mark_size", f"How big is the sticker on the {item.name}?", mark.size),
        ]
    return [SceneQuestion(*entry, item.box, (index,), (mark.box,)) for entry in asked]


def _relations(single: list[tuple[int, Item]]) -> list[SceneQuestion]:
    questions = []
    for index, item in single:
        for other_index, other in single:
            if index == other_index:
                continue
            boxes = (item.box, other.box)
            for axis, phrase in ((0, "to the left of"), (1, "above")):
                gap = (other.box[axis] + other.box[axis + 2] - item.box[axis] - item.box[axis + 2]) / 2
                if abs(gap) < 60:  # neither clearly so nor clearly not
                    continue
                question = f"Is the {item.name} {phrase} the {other.name}?"
                answer = "yes" if gap > 0 else "no"
                questions.append(SceneQuestion("relation", question, answer, union(boxes), (index, other_index), boxes))
    return questions


def _plural(name: str) -> str:
    return name + ("es" if name[-1] in "sxh" else "s") if name != "fish" else "fish"


NOUNS = tuple(dict.fromkeys(noun for name in NAMES for noun in (name, _plural(name))))
"""The words by which questions name objects."""
