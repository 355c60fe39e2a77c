"""``df_seed_img_mini``: SEED-Bench's nine dimensions asked of held-out scenes, four options each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dualfocus_eval.data.benchmarks.seed import DIMENSIONS, SEED_IMG
from dualfocus_eval.data.minis.table import held_out, stored_image, write_table
from dualfocus_eval.data.scenes.layout import COLORS, NAMES, Item, Scene
from dualfocus_eval.data.scenes.questions import ANSWERS, ask

__all__ = ["write"]

FIRST_SCENE, SCENES = 1000, 60
PER_SCENE = 6
LETTERS = "ABCD"
OF_KINDS = {
    1: ("scene",),
    3: ("object_color", "mark_color", "mark_shape"),
    5: ("count",),
    9: ("text",),
}
"""Dimensions whose questions are asked of scenes anyway, by kind."""
CLEAR, ALIGNED = 60, 25
"""Pixels: centres this far apart are clearly beside each other, centres so close are not beside each other at all."""


class Choice(NamedTuple):
    """A question, its answer, and what is surely not its answer."""

    question: str
    answer: str
    wrong: tuple[str, ...]


def write(tasks: Path) -> list[Path]:
    """Write the set below ``tasks`` and return its file."""
    from datasets import Features, Image, List

    features = Features({**SEED_IMG.columns(), "image": List(Image())})
    asked = Counter[int]()
    rows: list[dict[str, Any]] = []
    for scene in held_out(FIRST_SCENE, SCENES):
        rng = random.Random(f"seed-mini/{scene.index}")
        image = [stored_image(scene)]
        for dimension, choice in _chosen(scene, rng):
            values = _values(choice, _letter(dimension, asked[dimension]), rng)
            asked[dimension] += 1
            rows.append(
                values | {
                    "question_id": str(len(rows) + 1), "data_id": scene.image_id, "data_type": "image",
                    "question_type_id": dimension, "image": image,
                }
            )  # fmt: skip
    return [write_table(tasks / "seed" / "data" / "mini.parquet", rows, features)]


def _chosen(scene: Scene, rng: random.Random) -> list[tuple[int, Choice]]:
    """One question in each of some dimensions; the first dimension moves on from scene to scene."""
    dimensions = [*DIMENSIONS][scene.index % len(DIMENSIONS) :] + [*DIMENSIONS][: scene.index % len(DIMENSIONS)]
    by_dimension = {dimension: list(_choices(scene, dimension, rng)) for dimension in dimensions}
    return [(dimension, rng.choice(found)) for dimension, found in by_dimension.items() if found][:PER_SCENE]


def _letter(dimension: int, number: int) -> str:
    """The right letter of a dimension's question: of every four, each letter once."""
    block, place = divmod(number, len(LETTERS))
    return random.Random(f"seed-mini/letters/{dimension}/{block}").sample(LETTERS, len(LETTERS))[place]


def _values(choice: Choice, letter: str, rng: random.Random) -> dict[str, str]:
    wrong = iter(rng.sample(choice.wrong, len(LETTERS) - 1))
    texts = {f"choice_{each.lower()}": choice.answer if each == letter else next(wrong) for each in LETTERS}
    return {"question": choice.question, "answer": letter, **texts}


def _choices(scene: Scene, dimension: int, rng: random.Random) -> Iterator[Choice]:
    """The scene's questions in one of SEED-Bench's dimensions."""
    single = _single(scene)
    if dimension in OF_KINDS:
        for entry in ask(scene, rng):
            # A text that is itself an option's letter would be two answers in one.
            if entry.kind in OF_KINDS[dimension] and entry.answer not in LETTERS:
                answers = [answer for answer in ANSWERS[entry.kind] if answer not in LETTERS]
                yield _among(entry.question, entry.answer, answers)
    elif dimension == 2:
        absent = tuple(sorted(set(NAMES) - {item.name for item in scene.items}))
        for item in single:
            yield Choice("Which of these objects is in the image?", item.name, absent)
    elif dimension == 4:
        yield from _locations(scene, single)
    elif dimension == 6:
        yield from _positions(single)
    elif dimension == 7:
        yield from _carried(single, rng)
    else:
        labels = sum(item.mark is not None and item.mark.kind == "label" for item in scene.items)
        yield _among("On how many objects is something written?", str(labels), [str(count) for count in range(5)])


def _among(question: str, answer: str, answers: Sequence[str]) -> Choice:
    return Choice(question, answer, tuple(other for other in answers if other != answer))


def _single(scene: Scene) -> list[Item]:
    """Objects that their name tells from all others."""
    counts = Counter(item.name for item in scene.items)
    return [item for item in scene.items if counts[item.name] == 1]


def _middle(item: Item) -> tuple[float, float]:
    x1, y1, x2, y2 = item.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def _locations(scene: Scene, single: Sequence[Item]) -> Iterator[Choice]:
    """The quarter of the image in which an object lies, for those that lie in one."""
    quarters = ("top left", "top right", "bottom left", "bottom right")
    for item in single:
        x1, y1, x2, y2 = item.box
        right, below = 2 * x1 >= scene.width, 2 * y1 >= scene.height
        if (right or 2 * x2 <= scene.width) and (below or 2 * y2 <= scene.height):
            answer = quarters[2 * below + right]
            yield _among(f"In which part of the image is the {item.name}?", answer, quarters)


def _positions(single: Sequence[Item]) -> Iterator[Choice]:
    """Pairs of objects beside or above each other, but not both."""
    phrases = ("to the left of", "to the right of", "above", "below")
    for item in single:
        for other in single:
            x, y = (there - here for there, here in zip(_middle(other), _middle(item), strict=True))
            far, near = sorted((abs(x), abs(y)), reverse=True)
            if far >= CLEAR and near <= ALIGNED:
                place = (0 if x > 0 else 1) if abs(x) == far else (2 if y > 0 else 3)
                question = f"Where is the {item.name} relative to the {other.name}?"
                yield _among(question, *_about(phrases, other.name, place))


def _about(phrases: Sequence[str], name: str, place: int) -> tuple[str, list[str]]:
    texts = [f"{phrase} the {name}" for phrase in phrases]
    return texts[place], texts


def _carried(single: Sequence[Item], rng: random.Random) -> Iterator[Choice]:
    """What is on an object: a label or a sticker, of some colour."""
    for item in single:
        if item.mark is None:
            continue
        other = "sticker" if item.mark.kind == "label" else "label"
        color = rng.choice([name for name in COLORS if name not in (item.mark.color, item.color)])
        texts = [
            f"{_article(shade)} {shade} {kind}"
            for shade in (item.mark.color, color)
            for kind in (item.mark.kind, other)
        ]
        yield Choice(f"What does the {item.name} have on it?", texts[0], tuple(texts[1:]))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
