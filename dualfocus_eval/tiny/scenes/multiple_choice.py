"""Multiple-choice questions about a scene: those it answers anyway, and some that only options make precise."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dualfocus_eval.common.geometry import union
from dualfocus_eval.tiny.scenes.layout import COLORS, NAMES, Item, Scene
from dualfocus_eval.tiny.scenes.questions import ANSWERS, SceneQuestion, with_article

__all__ = [
    "CHOICE_KINDS", "HINTS", "LETTERS", "SceneChoice", "choices_of", "letter_in_turn", "lettered", "with_answers",
    "without_letters",
]  # fmt: skip

LETTERS = "ABCD"
HINTS = {
    "relation": "Left and above are meant as one looks at the picture.",
    "text": "Every label shows one character, a capital letter or a digit.",
    "mark_size": "Stickers come in two sizes, small and large.",
}
"""What a question of a kind may be introduced with, as MMBench introduces some of its own."""
CLEAR, ALIGNED = 60, 25
"""Pixels: centres this far apart are clearly beside each other, centres so close are not beside each other at all."""
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
DIRECTIONS = ("to the left of", "to the right of", "above", "below")


@dataclass(frozen=True)
class SceneChoice:
    """A question with its answer, and what is surely not its answer."""

    asked: SceneQuestion
    wrong: tuple[str, ...]


def choices_of(scene: Scene, kind: str, rng: random.Random) -> list[SceneChoice]:
    """The scene's questions of one of `CHOICE_KINDS`."""
    return list(_ASKING[kind](scene, rng))


def with_answers(asked: SceneQuestion, answers: Sequence[str]) -> SceneChoice:
    """``asked``, with every other of ``answers`` as a wrong one."""
    return SceneChoice(asked, tuple(other for other in answers if other != asked.answer))


def without_letters(asked: SceneQuestion) -> SceneChoice | None:
    """``asked`` with the other answers of its kind that are no option's letter; None where its own answer is one.

    A text that is itself an option's letter would be two answers in one.
    """
    if asked.answer in LETTERS:
        return None
    return with_answers(asked, [answer for answer in ANSWERS[asked.kind] if answer not in LETTERS])


def letter_in_turn(series: str, number: int) -> str:
    """The right letter of question ``number`` of a series: of every four questions, each letter once."""
    block, place = divmod(number, len(LETTERS))
    return random.Random(f"{series}/{block}").sample(LETTERS, len(LETTERS))[place]


def lettered(choice: SceneChoice, letter: str, rng: random.Random) -> list[str]:
    """Four options in the order of their letters, the right one at ``letter`` among wrong ones by chance."""
    wrong = iter(rng.sample(choice.wrong, len(LETTERS) - 1))
    return [choice.asked.answer if each == letter else next(wrong) for each in LETTERS]


def _identities(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    absent = tuple(sorted(set(NAMES) - {item.name for item in scene.items}))
    for _, item in scene.distinct:
        question = "Which of these objects is in the image?"
        yield SceneChoice(SceneQuestion("identity", question, item.name, scene.frame, (), (item.box,)), absent)


def _locations(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    """The quarter of the image in which an object lies, for those that lie in one."""
    for index, item in scene.distinct:
        x1, y1, x2, y2 = item.box
        right, below = 2 * x1 >= scene.width, 2 * y1 >= scene.height
        if (right or 2 * x2 <= scene.width) and (below or 2 * y2 <= scene.height):
            question = f"In which part of the image is the {item.name}?"
            answer = QUARTERS[2 * below + right]
            yield with_answers(SceneQuestion("location", question, answer, item.box, (index,), (item.box,)), QUARTERS)


def _positions(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    """Pairs of objects beside or above each other, but not both."""
    for index, item in scene.distinct:
        for other_index, other in scene.distinct:
            x, y = (there - here for there, here in zip(_middle(other), _middle(item), strict=True))
            far, near = sorted((abs(x), abs(y)), reverse=True)
            if far >= CLEAR and near <= ALIGNED:
                place = (0 if x > 0 else 1) if abs(x) == far else (2 if y > 0 else 3)
                question = f"Where is the {item.name} relative to the {other.name}?"
                texts = [f"{direction} the {other.name}" for direction in DIRECTIONS]
                boxes = (item.box, other.box)
                asked = SceneQuestion("position", question, texts[place], union(boxes), (index, other_index), boxes)
                yield with_answers(asked, texts)


def _contents(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    """What is on an object: a label or a sticker, of some colour."""
    for index, item in scene.distinct:
        if item.mark is None:
            continue
        other = "sticker" if item.mark.kind == "label" else "label"
        color = rng.choice([name for name in COLORS if name not in (item.mark.color, item.color)])
        texts = [
            with_article(f"{shade} {kind}") for shade in (item.mark.color, color) for kind in (item.mark.kind, other)
        ]
        question = f"What does the {item.name} have on it?"
        yield SceneChoice(
            SceneQuestion("content", question, texts[0], item.box, (index,), (item.mark.box,)), tuple(texts[1:])
        )


def _label_counts(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    labels = [item.mark.box for item in scene.items if item.mark is not None and item.mark.kind == "label"]
    question = "On how many objects is something written?"
    asked = SceneQuestion("label_count", question, str(len(labels)), scene.frame, (), tuple(labels))
    yield with_answers(asked, [str(count) for count in range(5)])


def _comparisons(scene: Scene, rng: random.Random) -> Iterator[SceneChoice]:
    """Which object has a colour that neither two others nor the marks on them have; at most one such question."""
    single = scene.distinct
    rng.shuffle(single)
    for index, item in single:
        others = [other for _, other in single if item.color not in (other.color, other.mark and other.mark.color)]
        if len(others) >= 2:
            texts = [f"the {one.name}" for one in (item, *others[:2])]
            question = f"Which of these objects is {item.color}?"
            asked = SceneQuestion("comparison", question, texts[0], item.box, (index,), (item.box,))
            yield SceneChoice(asked, tuple(texts[1:]))
            return


def _middle(item: Item) -> tuple[float, float]:
    x1, y1, x2, y2 = item.box
    return (x1 + x2) / 2, (y1 + y2) / 2


_ASKING = {
    "identity": _identities,
    "location": _locations,
    "position": _positions,
    "content": _contents,
    "label_count": _label_counts,
    "comparison": _comparisons,
}
CHOICE_KINDS = tuple(_ASKING)
"""Kinds of questions that only options make precise."""
