import io
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.generation import GenerationLimits
from dualfocus_eval.harness.questions import chat_question, simple_question
from dualfocus_eval.harness.requests import Request
from dualfocus_eval.harness.structure import read_structure
from dualfocus_eval.method.question import AnswerKind, Question
from tests.postscript import POSTSCRIPT, ghostscript_log

RED = Image.new("RGB", (6, 4), "red")
BLUE = Image.new("RGB", (6, 4), "blue")
PROMPT = "What is it?\nA. a cat\nB. a dog\nAnswer with the option's letter from the given choices directly."


def user(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def image(pixels: Any = RED) -> dict[str, Any]:
    return {"type": "image", "url": pixels}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def ask(messages: Any, structure: dict[str, Any] | None = None, doc: Any = None, system: str | None = None) -> Question:
    declared = read_structure({"dualfocus": structure or {}}, "t")
    request = Request("t", "test", 0, "ctx", lambda _: messages, GenerationLimits(5, ("\n",)), declared)
    return chat_question(request, [doc if doc is not None else {}], system)


def failure_kind(question: Question) -> str | None:
    return question.failure.kind if question.failure else None


def test_prompt_image_and_limits() -> None:
    question = ask(user(image(), text("Is it red?")))
    assert (question.key, question.prompt, question.stem) == ("t/0", "Is it red?", "Is it red?")
    assert question.images[0].pixels.size == (6, 4)
    assert (question.max_new_tokens, question.stop, question.kind) == (5, ("\n",), AnswerKind.SHORT)


def shown(question: Question) -> list[str]:
    """The user's turn with each picture by its colour."""
    colours = {RED.tobytes(): "(red)", BLUE.tobytes(): "(blue)"}
    return [part if isinstance(part, str) else colours[part.pixels.tobytes()] for part in question.content]


@pytest.mark.parametrize(
    ("content", "asked", "stem"),
    [
        ([image(), text("Is it red?")], ["(red)", "Is it red?"], "Is it red?"),
        ([text("Is it red?"), image()], ["Is it red?", "(red)"], "Is it red?"),
        (
            [text("What is the ball in"), image(), text("made of?")],
            ["What is the ball in", "(red)", "made of?"],
            "What is the ball in made of?",
        ),
        (
            [text("Is it in "), image(), text("or in\n"), image(BLUE), text("then?")],
            ["Is it in ", "(red)", "or in\n", "(blue)", "then?"],
            "Is it in or in\nthen?",
        ),
        ([text("Look."), text("Is it?")], ["Look.", "Is it?"], "Look. Is it?"),
        ([text(""), image(), text("Is it?")], ["", "(red)", "Is it?"], "Is it?"),
    ],
)
def test_texts_and_images_stay_in_the_tasks_order(content: list[dict[str, Any]], asked: list[str], stem: str) -> None:
    question = ask(user(*content))
    assert (shown(question), question.stem) == (asked, stem)
    assert len(question.images) == sum(part["type"] == "image" for part in content)


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        ([image(), text("<image>\nIs it red?")], ["(red)", "Is it red?"]),
        ([image(), text("Question: <image>\nIs it red?")], ["Question: ", "(red)", "\nIs it red?"]),
        ([text("Is it red?\n<image>"), image()], ["Is it red?", "(red)"]),
        (
            [image(), image(BLUE), text("Is it in <image> or <image>?")],
            ["Is it in ", "(red)", " or ", "(blue)", "?"],
        ),
        # Marks that are not one for each image stand for none; a model that has no such token reads them as text.
        ([image(), text("Is <image> or <image> it?")], ["(red)", "Is <image> or <image> it?"]),
        ([text("What is <image> in HTML?")], ["What is <image> in HTML?"]),
    ],
)
def test_a_mark_in_the_text_stands_for_its_image(content: list[dict[str, Any]], asked: list[str]) -> None:
    question = ask(user(*content))
    assert shown(question) == asked
    assert ("<image>" in question.prompt) == (not question.images)
    assert "<image>" not in question.stem


def test_questions_in_another_order_are_other_questions() -> None:
    orders = [[image(), text("Is it?")], [text("Is it?"), image()], [text("Is"), image(), text("it?")]]
    assert len({ask(user(*order)).digest for order in orders}) == 3
    assert ask(user(*orders[0])).digest == ask(user(image(), text("<image>\nIs it?"))).digest


def test_options_are_found_in_the_prompt() -> None:
    question = ask(user(image(), text(PROMPT)))
    assert (question.stem, question.options, question.kind) == (
        "What is it?",
        ("a cat", "a dog"),
        AnswerKind.OPTION,
    )


def test_a_task_that_declares_its_structure_is_believed() -> None:
    declared = {"stem": "question", "answer": "yes_no"}
    question = ask(user(image(), text("Look! Is it red? Say yes or no.")), declared, {"question": " Is it red? "})
    assert (question.stem, question.kind) == ("Is it red?", AnswerKind.YES_NO)
    assert ask(user(text("Is it red?")), {"stem": "missing"}, {"question": "x"}).stem == "Is it red?"


def test_options_and_hint_come_from_columns_without_their_blanks() -> None:
    declared = {"stem": "question", "hint": "hint", "options": ["A", "B", "C"], "answer": "option"}
    doc = {"question": "Which?", "hint": float("nan"), "A": "a cat", "B": " B. dog", "C": None}
    question = ask(user(text("Which?\nA. a cat")), declared, doc)
    assert (question.stem, question.hint, question.options) == ("Which?", "", ("a cat", "B. dog"))
    listed = ask(user(text("?")), {"stem": "question", "options": "choices"}, {"question": "?", "choices": ["x", "y"]})
    assert (listed.hint, listed.options, listed.kind) == (None, ("x", "y"), AnswerKind.OPTION)


def test_each_declaration_stands_by_itself() -> None:
    options_only = ask(user(text("Which?")), {"options": "choices", "answer": "option"}, {"choices": ["x", "y"]})
    assert (options_only.stem, options_only.options) == ("Which?", ("x", "y"))
    stem_only = ask(user(text(PROMPT)), {"stem": "question"}, {"question": "What is it?"})
    assert (stem_only.options, stem_only.kind) == (("a cat", "a dog"), AnswerKind.OPTION)
    assert ask(user(text("Which?")), {"stem": "question"}, {"question": None}).stem == "Which?"


def test_a_blank_option_between_others_keeps_its_letter() -> None:
    doc = {"question": "Which?", "A": "x", "B": "", "C": "z", "D": None}
    question = ask(user(text("Which?")), {"stem": "question", "options": ["A", "B", "C", "D"]}, doc)
    assert question.options == ("x", "", "z")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"answer": "maybe"}, r"task t, metadata\.dualfocus, answer: 'maybe' is not one of: yes_no"),
        ({"options": 3}, r"task t, metadata\.dualfocus, options: expected a list, found 3"),
        ({"grouped_rows": "yes"}, r"task t, metadata\.dualfocus, grouped_rows: 'yes' is not true or false"),
        ({"prepared": "pope"}, r"task t, metadata\.dualfocus: prepared='pope' is not BENCHMARK/SPLIT"),
        ({"steem": "question"}, r"task t, metadata\.dualfocus: unknown key 'steem'\. Did you mean stem\?"),
        ("question", r"task t, metadata\.dualfocus: expected keys with values"),
    ],
)
def test_a_wrong_declaration_is_the_tasks_fault(declared: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ask(user(text("Is it?")), declared)


def test_a_tasks_own_pre_and_post_prompts_are_no_part_of_the_stem() -> None:
    messages = user(text("Look here. Is it red? Think hard."))
    wording = {"pre_prompts": ("Look here. ",), "post_prompts": (" Think hard.",)}
    request = Request("t", "test", 0, "", lambda _: messages, GenerationLimits(5, ()), **wording)
    assert chat_question(request, [{}], None).stem == "Is it red?"


def test_system_text_comes_from_the_argument_or_the_task() -> None:
    messages = [{"role": "system", "content": [text("Be kind.")]}, *user(text("Is it?"))]
    assert ask(messages).system == "Be kind."
    assert ask(messages, system="Be brief.").system == "Be brief."


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        (user(image("no/such/file.png"), text("Is it?")), "bad_image"),
        (user(image("clip.mp4"), text("Is it?")), "unsupported_video"),
        (user({"type": "video", "url": "clip.mp4"}, text("Is it?")), "unsupported_video"),
        (user({"type": "audio", "url": b""}, text("Is it?")), "unsupported_audio"),
        (user(image(7), text("Is it?")), "unsupported_media"),
        ([*user(text("2+2?")), {"role": "assistant", "content": [text("4")]}], "unsupported_conversation"),
        ([*user(text("2+2?")), *user(text("3+3?"))], "unsupported_conversation"),
        ([*user(text("2+2?")), {"role": "system", "content": "Be brief."}], "unsupported_conversation"),
        ([{"role": "system", "content": [image()]}, *user(text("Is it?"))], "unsupported_conversation"),
        (None, "bad_document"),
        ([{"role": "user"}], "bad_document"),
    ],
)
def test_what_cannot_be_asked_becomes_a_named_failure(messages: Any, kind: str) -> None:
    question = ask(messages)
    assert failure_kind(question) == kind
    assert question.failure
    assert question.failure.message.startswith("t/0: ")


def test_a_document_that_cannot_be_read_fails_alone() -> None:
    class Broken:
        def __getitem__(self, number: int) -> Any:
            raise OSError("cannot identify image file")

    request = Request("t", "test", 0, "ctx", lambda doc: [], GenerationLimits(5, ()))
    assert failure_kind(chat_question(request, Broken(), None)) == "bad_image"


@pytest.mark.parametrize("decoded_by", ["datasets", "the task"])
@pytest.mark.parametrize("what", ["postscript", "cut off"])
def test_images_that_others_decode_are_whole_and_no_postscript(
    what: str, decoded_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As built-in tasks have them: rows of ``datasets``, and files that the task's own code opens."""
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)  # as lmms-eval does
    log = ghostscript_log(tmp_path, monkeypatch)
    content = io.BytesIO()
    Image.effect_noise((99, 99), 80).save(content, "JPEG")
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT if what == "postscript" else content.getvalue()[:2000])
    rows: Any = [{}]
    if decoded_by == "datasets":
        rows = Dataset.from_dict({"image": [str(tmp_path / "a.jpg")]}, features=Features({"image": ImageFeature()}))

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        opened = doc["image"] if decoded_by == "datasets" else Image.open(tmp_path / "a.jpg")
        return user(image(opened.convert("RGB")), text("Is it?"))

    request = Request("t", "test", 0, "ctx", messages, GenerationLimits(5, ()))
    assert failure_kind(chat_question(request, rows, None)) in ("bad_image", "bad_document")
    assert not log.exists()


def test_simple_models_are_asked_the_context_with_their_visuals() -> None:
    request = Request("t", "test", 0, "<image>\nIs it red?", lambda doc: [RED], GenerationLimits(5, ()))
    question = simple_question(request, [{}], None)
    assert (question.prompt, len(question.images)) == ("Is it red?", 1)
    marked = Request("t", "test", 0, "Is <image> or\n<image> red?", lambda doc: [RED, BLUE], GenerationLimits(5, ()))
    assert shown(simple_question(marked, [{}], None)) == ["Is ", "(red)", " or\n", "(blue)", " red?"]
    without = Request("t", "test", 0, "Is it?", lambda doc: None, GenerationLimits(5, ()))
    assert simple_question(without, [{}], None).images == ()
