from dataclasses import replace

import pytest
from PIL import Image

from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.method.question import AnswerKind, Question, stem_of


@pytest.mark.parametrize(
    ("prompt", "stem", "options"),
    [
        ("Is there a dog?\nAnswer the question using a single word or phrase.", "Is there a dog?", ()),
        ("Is there a dog? Please answer yes or no.", "Is there a dog?", ()),
        ("What is it?", "What is it?", ()),
        (
            "What is it?\nA. A dog\nB. A cat\nAnswer with the option's letter from the given choices directly.",
            "What is it?",
            ("A dog", "A cat"),
        ),
        ("What is it?\n(A) A dog\n(B) A cat", "What is it?", ("A dog", "A cat")),
        ("A kitchen.\nWhat is it?\nA. A dog\nB. A cat\nC. None", "A kitchen.\nWhat is it?", ("A dog", "A cat", "None")),
        ("A. Lincoln is shown where?", "A. Lincoln is shown where?", ()),
        ("What is it?\nB. A cat\nC. A dog", "What is it?\nB. A cat\nC. A dog", ()),
        ("A. A dog\nB. A cat", "", ("A dog", "A cat")),
        ("  ", "", ()),
    ],
)
def test_the_stem_is_what_is_left_without_format_hints_and_options(
    prompt: str, stem: str, options: tuple[str, ...]
) -> None:
    assert stem_of(prompt) == (stem, options)


def test_a_tasks_own_post_prompt() -> None:
    assert stem_of("Where?\nBe brief.", ["\nBe brief."]).stem == "Where?"
    assert stem_of("Where?\nBe brief.", [""]).stem == "Where?\nBe brief."


def test_the_digest_covers_all_that_can_change_the_answer_and_nothing_else() -> None:
    picture, other = (Picture(Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue"))
    question = Question("a", "What?", "What?", (picture,))
    assert replace(question, key="b").digest == question.digest
    assert replace(question, images=(Picture(picture.pixels.copy()),)).digest == question.digest
    changes = {
        "prompt": "Which?",
        "stem": "Which?",
        "images": (other,),
        "kind": AnswerKind.OPEN,
        "options": ("x",),
        "hint": "",
        "max_new_tokens": 17,
        "stop": ("\n",),
        "system": "Be brief.",
        "video": True,
    }
    digests = {replace(question, **{name: value}).digest for name, value in changes.items()}
    assert len(digests | {question.digest}) == len(changes) + 1
    untested = set(Question.__dataclass_fields__) - set(changes) - {"key", "failure"}
    assert not untested
    assert replace(question, failure=Failure("bad_image", "")).digest == question.digest
