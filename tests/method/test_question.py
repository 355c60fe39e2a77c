from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.method.stems import POST_PROMPTS, stem_of


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
        ("Which?\nOptions:\nA. a dog\nB. a cat\nBe brief.", "Which?", ("a dog", "a cat")),
        ("Which? There are several options:\nA. if a:\n  b\nB. if b:\n  a", "Which?", ("if a:\n  b", "if b:\n  a")),
        ("Which?\nA. one\n\nB. two\n\nA note.\nC. third", "Which?", ("one", "two")),
        ("Which?\nOptions: A: a dog., B: B. Shaw, C: 3, 4", "Which?", ("a dog.", "B. Shaw", "3, 4")),
        ("Which? (A) Mr. B. Shaw (B) none", "Which?", ("Mr. B. Shaw", "none")),
        ("Is person (A) taller than person (B) here?", "Is person (A) taller than person (B) here?", ()),
        ("What are my options: A: none?", "What are my options: A: none?", ()),
        ("Hint: It is small.\nQuestion: Which?\nChoices:\n(A) 1\n(B) 2", "Which?", ("1", "2")),
        ("Context: It is small.\nSee below.\nWhich?", "Which?", ()),
        ("Which?\nReference OCR token: A., B.\nAnswer the question using a single word or phrase", "Which?", ()),
        ("A. a dog\nB. a cat\nWhich is shown?", "Which is shown?", ("a dog", "a cat")),
        ("See below.\nA. a dog\nB. a cat\nWhich is shown?", "Which is shown?", ("a dog", "a cat")),
        ("Question: \nWhich?\nA: a dog\nB: a cat", "Which?", ("a dog", "a cat")),
        (
            "Where is the cup? Select from the following choices.\n(A) left\n(B) right",
            "Where is the cup?",
            ("left", "right"),
        ),
        (
            "Where is it? The choices are listed below:\n(A) left\n(B) right\nSelect the best answer to the above "
            "multiple-choice question based on the image. Respond with only the letter (A or B) of the correct option."
            "\nThe best answer is: ",
            "Where is it?",
            ("left", "right"),
        ),
        (
            "What is it? Please respond to the question with a single word or phrase.\nThe best answer is: ",
            "What is it?",
            (),
        ),
        ("It is small. Give the number of cups.", "It is small. Give the number of cups.", ()),
        ("Select the correct option.", "Select the correct option.", ()),
        ("Answer the question using a single word or phrase.\nWhat is it?", "What is it?", ()),
        ("Select the best answer to the question. Be careful.", "Be careful.", ()),
        (
            "Please solve it step by step.What is it?\nBe quick.",
            "Please solve it step by step.What is it?\nBe quick.",
            (),
        ),
        ("Which?\nChoices: A. a dog\nB. a cat", "Which?", ("a dog", "a cat")),
        ("What is it?\nLet's think step by step.\nAnswer:", "What is it?", ()),
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


def test_a_tasks_own_pre_prompt() -> None:
    pre_prompt = "Note: Respond with {} and nothing else.\n"
    assert stem_of("Note: Respond with A, B and nothing else.\n\nWhere?", (), [pre_prompt]).stem == "Where?"
    assert stem_of("Note: Respond.\nWhere?", (), [pre_prompt, "", "{}"]).stem == "Note: Respond.\nWhere?"
    assert stem_of("Where?", (), ["Where?"]).stem == "Where?"


PIECES = st.sampled_from(
    ["A. dog", "B. cat", "C. ", "(A) x", " (B) y", "Options:", "There are several options: ", "Question: ",
     "Context: c", "Hint: h", "\n", "\n\n", " ", ".", "\r", "\u2028", "Which?",
     "\nReference OCR token: a", *POST_PROMPTS]
)  # fmt: skip
PROMPTS = st.text() | st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join)


@given(PROMPTS, st.lists(st.text(max_size=6) | st.sampled_from(POST_PROMPTS), max_size=3))
def test_the_stem_is_never_longer_than_the_prompt_and_holds_nothing_more_to_cut(prompt: str, posts: list[str]) -> None:
    stem, options = stem_of(prompt, posts)
    assert len(stem) <= len(prompt)
    assert stem_of(stem, posts) == (stem, ())
    assert len(options) != 1
    assert all(option.strip() and option in prompt for option in options)


@given(
    st.text(alphabet="abc ?"),
    st.lists(st.text("abc", min_size=1), min_size=2, max_size=6),
    st.sampled_from(POST_PROMPTS),
)
def test_what_is_put_together_comes_apart(question: str, options: list[str], post: str) -> None:
    lines = [f"{chr(ord('A') + number)}. {option}" for number, option in enumerate(options)]
    assert stem_of("\n".join([question, *lines, post])) == (question.strip(), tuple(options))


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
        "truth": Box(0.1, 0.2, 0.3, 0.4),
        "layout": ("What?", picture),
    }
    digests = {replace(question, **{name: value}).digest for name, value in changes.items()}
    assert len(digests | {question.digest}) == len(changes) + 1
    untested = set(Question.__dataclass_fields__) - set(changes) - {"key", "failure"}
    assert not untested
    assert replace(question, failure=Failure("bad_image", "")).digest == question.digest
