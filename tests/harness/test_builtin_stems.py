"""The stem rule over the prompts of lmms-eval's own tasks: each task's own functions and settings write them."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.method.marks import IMAGE_MARK
from dualfocus_eval.method.stems import POST_PROMPTS, stem_of

_SPEC = importlib.util.find_spec("lmms_eval")
assert _SPEC is not None
assert _SPEC.origin is not None
BUILT_IN = Path(_SPEC.origin).parent / "tasks"

LETTERED = {"A": "a red one", "B": "a blue one", "C": "none", "D": "B. a green one, (A) too"}
MMBENCH = {**LETTERED, "category": "", "L2-category": "", "index": 1, "source": "", "split": "dev", "answer": "A"}
CODE = {"A": "def f():\n    return 1", "B": "def f():\n    return 2", "C": "nan", "D": "nan"}
REAL_LETTER = "Please answer directly with only the letter of the correct option and nothing else."
REAL_WORD = "Please answer directly with a single word or number."
LISTED = "Options: A: On the book., B: Beneath the cat., C: Neither, really., D: Both."
MATHVISTA_HINT = "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end."

CASES: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    ("pope/pope.yaml", {"question": " Is there a cup in the image? "}, "Is there a cup in the image?", ()),
    ("gqa/gqa.yaml", {"question": "Is the cup to the left of a plate?"}, "Is the cup to the left of a plate?", ()),
    ("textvqa/textvqa_val.yaml", {"question": "what does it say?", "ocr_tokens": ["STOP"]}, "What does it say?", ()),
    (
        "seedbench/seedbench.yaml",
        {"question": "How many?", "choice_a": "One", "choice_b": "Two", "choice_c": "Three", "choice_d": "Four"},
        "How many?",
        ("One", "Two", "Three", "Four"),
    ),
    (
        "mmbench/mmbench_en_dev_static.yaml",
        {**MMBENCH, "question": "Which one is it?", "hint": "nan"},
        "Which one is it?",
        tuple(LETTERED.values()),
    ),
    (
        "mmbench/mmbench_en_dev_static.yaml",
        {**MMBENCH, **CODE, "question": "Which code is shown?", "hint": None},
        "Which code is shown?",
        ("def f():\n    return 1", "def f():\n    return 2"),
    ),
    (  # A hint stands before the question on the same line: nothing tells them apart.
        "mmbench/mmbench_en_dev_static.yaml",
        {**MMBENCH, "question": "Which one is it?", "hint": "It is new."},
        "It is new. Which one is it?",
        tuple(LETTERED.values()),
    ),
    (
        "realworldqa/realworldqa.yaml",
        {"question": f"Where does the sign point?\n\nA. Left\nB. Right\n{REAL_LETTER}"},
        "Where does the sign point?",
        ("Left", "Right"),
    ),
    ("realworldqa/realworldqa.yaml", {"question": f"How many cars?\n{REAL_WORD}"}, "How many cars?", ()),
    (
        "mmstar/mmstar.yaml",
        {"question": f"Where is the case?\n{LISTED}"},
        "Where is the case?",
        ("On the book.", "Beneath the cat.", "Neither, really.", "Both."),
    ),
    (
        "mmstar/mmstar.yaml",
        {"question": f"{MATHVISTA_HINT}\nQuestion: Which is missing?\nChoices:\n(A) 4\n(B) 5\n(C) 6\n(D) 7"},
        "Which is missing?",
        ("4", "5", "6", "7"),
    ),
    (
        "ai2d/ai2d.yaml",
        {"question": "What eats the fox?", "options": ["nothing", "the hen", "a. b", "grass"]},
        "What eats the fox?",
        ("nothing", "the hen", "a. b", "grass"),
    ),
    (
        "vstar_bench/vstar_bench.yaml",
        {
            "text": "What is the glove made of?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\n"
            "Answer with the option's letter from the given choices directly."
        },
        "What is the glove made of?",
        ("rubber", "cotton", "kevlar", "leather"),
    ),
    (  # Brackets within an option keep the task from rewriting the line.
        "vstar_bench/vstar_bench.yaml",
        {"text": "Is the dog on the left? (A) (yes) (B) (no)"},
        "Is the dog on the left?",
        ("(yes)", "(no)"),
    ),
    (
        "hrbench/hrbench4k.yaml",
        {"question": "What colour is it?", **LETTERED},
        "What colour is it?",
        tuple(LETTERED.values()),
    ),
    (
        "mme_realworld/mme_realworld.yaml",
        {"question": "Where is the car?", "multi-choice options": [f"({k}) {text}" for k, text in LETTERED.items()]},
        "Where is the car?",
        tuple(LETTERED.values()),
    ),
    (
        "cv_bench/cv_bench.yaml",
        {
            "choices": ["left", "right"],
            "prompt": "Where is the car?\nSelect from the following choices.\n(A) left\n(B) right",
        },
        "Where is the car?",
        ("left", "right"),
    ),
    (
        "mmt/mmt_val.yaml",
        {"question": "Where is the car?", **LETTERED},
        "Where is the car?",
        tuple(LETTERED.values()),
    ),
    ("mme/mme.yaml", {"question": "Is this a cat? Please answer yes or no."}, "Is this a cat?", ()),
    (
        "scienceqa/scienceqa_img.yaml",
        {"question": "Which one is hotter?", "hint": "", "choices": ["sample A", "neither"]},
        "Which one is hotter?",
        ("sample A", "neither"),
    ),
    (
        "scienceqa/scienceqa_img.yaml",
        {
            "question": "Which one is hotter?",
            "hint": "Two samples are shown.\n\nFigure: gases.\nA. is left, the other right.",
            "choices": ["sample A", "sample B", "neither"],
        },
        "Which one is hotter?",
        ("sample A", "sample B", "neither"),
    ),
]  # fmt: skip


def wording(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The task's settings for a model that it does not name."""
    settings = config.get("lmms_eval_specific_kwargs")
    return None if settings is None else settings["default"]


@pytest.mark.parametrize(
    ("task", "document", "stem", "options"),
    CASES,
    ids=[f"{number}-{case[0].split('/')[0]}" for number, case in enumerate(CASES)],
)
def test_the_bare_question_of_a_built_in_task(
    task: str, document: dict[str, Any], stem: str, options: tuple[str, ...]
) -> None:
    config = load_yaml_config(str(BUILT_IN / task), mode="full")
    settings, doc_to_text = wording(config), config["doc_to_text"]
    takes_settings = settings is not None and "lmms_eval_specific_kwargs" in inspect.signature(doc_to_text).parameters
    prompt = doc_to_text(dict(document), settings) if takes_settings else doc_to_text(dict(document))
    own, before = ([settings[key]] if settings else [] for key in ("post_prompt", "pre_prompt"))
    assert prompt != stem
    bare = prompt.replace(IMAGE_MARK, "")
    assert stem_of(bare, (*POST_PROMPTS, *own), before) == (stem, options)


def test_the_reference_tokens_of_the_built_in_textvqa_are_no_part_of_the_question() -> None:
    config = load_yaml_config(str(BUILT_IN / "textvqa/textvqa_val.yaml"), mode="full")
    settings = {**config["lmms_eval_specific_kwargs"]["default"], "ocr": True}
    prompt = config["doc_to_text"]({"question": "what does it say?", "ocr_tokens": ["STOP", "A.", "B."]}, settings)
    assert "Reference OCR token: STOP, A., B." in prompt
    assert stem_of(prompt) == ("What does it say?", ())
