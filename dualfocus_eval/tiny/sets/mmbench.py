"""``df_mmbench_en_mini``: questions about held-out scenes with two to four options, under every rotation of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.mmbench import LETTERS, MMBENCH_EN, ROTATION
from dualfocus_eval.tiny.scenes.layout import Scene
from dualfocus_eval.tiny.scenes.multiple_choice import HINTS, choices_of
from dualfocus_eval.tiny.scenes.questions import ANSWERS, ask, balanced
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write"]

FIRST_SCENE, SCENES = 2000, 60
PER_SCENE = (2, 1)
"""Questions of one scene and of the next, in turn."""
COARSE = "coarse_perception"
INSTANCE = "finegrained_perception (instance-level)"
CROSS = "finegrained_perception (cross-instance)"


@dataclass(frozen=True)
class _Kind:
    """What MMBench would make of a kind of scene question."""

    category: str
    l2_category: str
    options: int


KINDS = {
    "scene": _Kind("image_scene", COARSE, 4),
    "object_color": _Kind("attribute_recognition", INSTANCE, 4),
    "count": _Kind("object_localization", INSTANCE, 4),
    "relation": _Kind("spatial_relationship", CROSS, 2),
    "comparison": _Kind("attribute_comparison", CROSS, 3),
    "text": _Kind("ocr", INSTANCE, 4),
    "mark_color": _Kind("attribute_recognition", INSTANCE, 4),
    "mark_shape": _Kind("attribute_recognition", INSTANCE, 4),
    "mark_size": _Kind("attribute_recognition", INSTANCE, 2),
}


@dataclass(frozen=True)
class _Choice:
    """A question of one kind with its options, the right one first."""

    kind: str
    question: str
    options: tuple[str, ...]


def write(tasks: Path) -> list[Path]:
    """Write the set below ``tasks`` and return its file."""
    from datasets import Features, Image

    rows: list[dict[str, Any]] = []
    asked: Counter[str] = Counter()
    for number, scene in enumerate(held_out(FIRST_SCENE, SCENES)):
        rng = random.Random(f"mmbench-mini/{scene.index}")
        image = stored_image(scene)
        choices = {choice.kind: choice for choice in _choices(scene, rng)}
        # The kinds asked least so far, so that kinds that few scenes have are not drowned.
        for kind in sorted(choices, key=lambda kind: (asked[kind], list(KINDS).index(kind)))[: PER_SCENE[number % 2]]:
            rows.extend(_rotations(asked.total() + 1, choices[kind], image, rng))
            asked[kind] += 1
    features = Features({**MMBENCH_EN.columns(), "image": Image()})
    return [write_table(tasks / "mmbench" / "data" / "mini.parquet", rows, features)]


def _choices(scene: Scene, rng: random.Random) -> Iterator[_Choice]:
    """One question of each kind that the scene has."""
    entries = balanced(ask(scene, rng), rng)
    # Most objects occur once: counting is asked only where it may also give more.
    seen = set() if any(entry.kind == "count" and entry.answer != "1" for entry in entries) else {"count"}
    for entry in entries:
        if entry.kind in KINDS and entry.kind not in seen:
            seen.add(entry.kind)
            others = [answer for answer in ANSWERS[entry.kind] if answer != entry.answer]
            wrong = rng.sample(others, KINDS[entry.kind].options - 1)
            yield _Choice(entry.kind, entry.question, (entry.answer, *wrong))
    for choice in choices_of(scene, "comparison", rng):
        yield _Choice("comparison", choice.asked.question, (choice.asked.answer, *choice.wrong))


def _rotations(number: int, choice: _Choice, image: dict[str, Any], rng: random.Random) -> Iterator[dict[str, Any]]:
    """The rows of a question: its options in random order, then that order rotated by one, two, ..."""
    kind = KINDS[choice.kind]
    order = list(choice.options)
    rng.shuffle(order)
    for step in range(len(order)):
        turned = order[step:] + order[:step]
        yield {
            "index": number + step * ROTATION, "question": choice.question, "hint": HINTS.get(choice.kind),
            "answer": LETTERS[turned.index(choice.options[0])],
            **{letter: turned[place] if place < len(turned) else None for place, letter in enumerate(LETTERS)},
            "category": kind.category, "source": "scenes", "l2-category": kind.l2_category, "comment": None,
            "split": "dev", "image": image,
        }  # fmt: skip
