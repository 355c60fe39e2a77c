"""``df_gqa_mini`` and ``df_gqa_mcq_mini``: GQA's five structural types, asked about held-out scenes.

Scenes are annotated as GQA annotates its images, and the multiple-choice set is built from these annotations by
the same code as from GQA's own.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualfocus_eval.datasets.gqa import GQA
from dualfocus_eval.datasets.gqa_choices.build import build_choices
from dualfocus_eval.datasets.gqa_mcq import GQA_MCQ, read_record
from dualfocus_eval.tiny.scenes.layout import COLORS, Item, Scene
from dualfocus_eval.tiny.scenes.questions import absent_objects, ask, balanced, with_article
from dualfocus_eval.tiny.sets.table import held_out, stored_image, write_table

__all__ = ["write"]

FIRST_SCENE, SCENES = 3000, 60
SEED, CHOICES = 0, 4
QUERIES = {"object_color": "color", "mark_color": "color", "mark_shape": "shape", "scene": "place"}
"""Kinds of scene questions with a word for an answer, and the group of that word."""
PER_SCENE = 2
"""Open questions of a scene; of each other type it has one."""

Annotated = dict[str, Any]


def write(tasks: Path) -> list[Path]:
    """Write both sets below ``tasks`` and return their files."""
    from datasets import Features, Image

    scenes = list(held_out(FIRST_SCENE, SCENES))
    images = {scene.image_id: stored_image(scene) for scene in scenes}
    questions = {entry["id"]: entry for scene in scenes for entry in annotate(scene)}
    rows = [
        {name: entry.get(name) for name in GQA.columns()} | {"image": images[entry["imageId"]]}
        for entry in questions.values()
    ]
    choices = [read_record(record, {}) for record in build_choices(questions, SEED, CHOICES).records]
    choice_rows = [row | {"image": images[row["image_id"]]} for row in choices]
    folder = tasks / "gqa" / "data"
    return [
        write_table(folder / "gqa.parquet", rows, Features({**GQA.columns(), "image": Image()})),
        write_table(folder / "gqa_mcq.parquet", choice_rows, Features({**GQA_MCQ.columns(), "image": Image()})),
    ]


def annotate(scene: Scene) -> Iterator[Annotated]:
    """The scene's questions as GQA's entries."""
    rng = random.Random(f"gqa-mini/{scene.index}")
    asked = (*_queries(scene, rng), *_verifies(scene, rng), *_chooses(scene, rng), *_logicals(scene, rng))
    for number, entry in enumerate((*asked, *_compares(scene, rng))):
        question_id = f"{scene.index:06d}{number:02d}"
        yield {"id": question_id, "imageId": scene.image_id, "isBalanced": True, "equivalent": [question_id], **entry}


def _entry(
    question: str, answer: str, full: str, types: tuple[str, str, str], group: str, program: list[tuple[str, str]]
) -> Annotated:
    """``types`` are the structural, semantic and detailed one; ``group`` is empty for a yes or no."""
    structural, semantic, detailed = types
    return {
        "question": question,
        "answer": answer,
        "fullAnswer": full,
        "types": {"structural": structural, "semantic": semantic, "detailed": detailed},
        "groups": {"global": group or None, "local": f"{structural}-{detailed}"},
        "semantic": [
            {"operation": operation, "argument": argument, "dependencies": []} for operation, argument in program
        ],
        "semanticStr": "->".join(f"{operation}: {argument}" for operation, argument in program),
    }


def _queries(scene: Scene, rng: random.Random) -> Iterator[Annotated]:
    candidates = [question for question in balanced(ask(scene, rng), rng) if question.kind in QUERIES]
    for question in candidates[:PER_SCENE]:
        group = QUERIES[question.kind]
        semantic = "global" if group == "place" else "attr"
        types = ("query", semantic, group)
        yield _entry(question.question, question.answer, f"{question.answer}.", types, group, [("query", group)])


def _verifies(scene: Scene, rng: random.Random) -> Iterator[Annotated]:
    """Existence and an object's colour take turns."""
    answer = _yes_or_no(scene, 2)
    if scene.index % 2:
        absent = absent_objects(scene, "adversarial", 1, rng)[0]
        name = rng.choice(_names(scene)) if answer == "yes" else absent
        question = f"Is there {with_article(name)} in the image?"
        program = [("select", name), ("exist", "?")]
        yield _entry(question, answer, f"{answer}.", ("verify", "obj", "exist"), "", program)
        return
    item = rng.choice(_distinct(scene))
    color = item.color if answer == "yes" else _other_color(item.color, rng)
    program = [("select", item.name), ("verify color", color)]
    yield _entry(f"Is the {item.name} {color}?", answer, f"{answer}.", ("verify", "attr", "verifyColor"), "", program)


def _chooses(scene: Scene, rng: random.Random) -> Iterator[Annotated]:
    item = rng.choice(_distinct(scene))
    offered = [item.color, _other_color(item.color, rng)]
    rng.shuffle(offered)
    yield _entry(
        f"Is the {item.name} {offered[0]} or {offered[1]}?", item.color, f"The {item.name} is {item.color}.",
        ("choose", "attr", "chooseColor"), "color", [("select", item.name), ("choose color", "|".join(offered))],
    )  # fmt: skip


def _logicals(scene: Scene, rng: random.Random) -> Iterator[Annotated]:
    """Two objects, both there or one absent."""
    answer, present, absent = _yes_or_no(scene, 1), _names(scene), absent_objects(scene, "popular", 1, rng)
    pair = rng.sample(present, 2) if answer == "yes" else [rng.choice(present), absent[0]]
    rng.shuffle(pair)
    first, second = map(with_article, pair)
    steps = [(operation, argument) for name in pair for operation, argument in (("select", name), ("exist", "?"))]
    yield _entry(
        f"Is there {first} and {second} in the image?", answer, f"{answer}.", ("logical", "obj", "existAnd"), "",
        [*steps, ("and", "")],
    )  # fmt: skip


def _compares(scene: Scene, rng: random.Random) -> Iterator[Annotated]:
    """Two objects of one colour where the scene has such, which about half of the scenes do."""
    pairs = list(itertools.combinations(_distinct(scene), 2))
    rng.shuffle(pairs)
    first, second = next((pair for pair in pairs if pair[0].color == pair[1].color), pairs[0])
    answer = "yes" if first.color == second.color else "no"
    program = [("select", first.name), ("select", second.name), ("same color", "")]
    yield _entry(
        f"Are the {first.name} and the {second.name} the same color?", answer, f"{answer}.",
        ("compare", "attr", "sameColor"), "", program,
    )  # fmt: skip


def _yes_or_no(scene: Scene, every: int) -> str:
    """Answers in turn, ``every`` scenes each."""
    return ("yes", "no")[scene.index // every % 2]


def _distinct(scene: Scene) -> list[Item]:
    return [item for _, item in scene.distinct]


def _names(scene: Scene) -> list[str]:
    return sorted({item.name for item in scene.items})


def _other_color(color: str, rng: random.Random) -> str:
    return rng.choice([name for name in COLORS if name != color])
