"""Labels, against an independent construction: the rounds written out and tokenised one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.convert.processor import vicuna_template
from dualfocus_eval.families import FAMILIES, family_for
from dualfocus_eval.training.encoding import IGNORED, encode, training_processor
from dualfocus_eval.training.records import Record, Turn
from measurements.random_models import build
from measurements.random_models.llava import LLAVA_TEMPLATE
from measurements.random_models.qwen import QWEN_TEMPLATE
from tests.training.samples import BOX, conversation, plain, record, text_only, two_rounds

ARCHITECTURES = ("llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")
IMAGES = {"0.png": (40, 30), "crops/0.png": (20, 20), "1.png": (50, 30)}
SEVERAL = {"image": ["1.png", "0.png"], "conversations": conversation("<image><image>\na?", "b c", "d?", "é 文 ok")}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """An architecture and its processor, whose own template has no markers."""
    return request.param, build(request.param)[1]


def rounds(architecture: str, entry: Mapping[str, Any], images: list[str]) -> list[tuple[str, bool]]:
    """The sample's text in pieces, and whether each is trained: written by hand, template by template."""
    pieces: list[tuple[str, bool]] = []
    left = iter(images)
    for number in range(0, len(entry["conversations"]), 2):
        question, answer = (turn["value"] for turn in entry["conversations"][number : number + 2])
        shown = [next(left) for _ in range(question.count("<image>"))]
        text = question.replace("<image>", "").strip()
        if architecture == "llava":
            pieces.append((f"USER: {''.join(image + chr(10) for image in shown)}{text} ASSISTANT:", False))
            pieces.append((f" {answer}</s>", True))
        else:
            system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            system = "" if number or architecture == "qwen3_vl" else system
            pictures = "".join(f"<|vision_start|>{image}<|vision_end|>" for image in shown)
            asked = f"<|im_start|>user\n{pictures}{text}<|im_end|>\n<|im_start|>assistant\n"
            pieces += [(system + asked, False), (f"{answer}<|im_end|>", True), ("\n", False)]
    return pieces


@pytest.mark.parametrize("entry", [two_rounds("a small cup"), plain("blue green"), text_only(), SEVERAL])
def test_labels_are_the_answers_and_their_end_tokens(case: tuple[str, Any], entry: Mapping[str, Any]) -> None:
    architecture, processor = case
    found = record(entry)
    names = [*found.images, *([found.sub_image] if found.sub_image else [])]
    pictures = [Image.new("RGB", IMAGES[name]) for name in names]
    counts = [
        int((processor(text=processor.image_token, images=[picture], return_tensors="pt")["input_ids"][0]
             == processor.image_token_id).sum())
        for picture in pictures
    ]  # fmt: skip
    expanded = [processor.image_token * count for count in counts]
    ids: list[int] = [0] if architecture == "llava" else []  # <s>
    labels = [IGNORED] * len(ids)
    for text, trained in rounds(architecture, entry, expanded):
        tokens = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += tokens
        labels += tokens if trained else [IGNORED] * len(tokens)

    encoded = encode(training_processor(processor, FAMILIES[architecture], "x"), found, counts)
    assert encoded.input_ids.tolist() == ids
    assert encoded.labels.tolist() == labels
    boxes = encoded.input_ids[encoded.grounding]
    assert processor.tokenizer.decode(boxes, skip_special_tokens=True).strip() == (BOX if "sub_image" in entry else "")
    assert (encoded.labels[encoded.grounding] == boxes).all()


def test_the_processor_itself_gives_the_same_tokens(case: tuple[str, Any]) -> None:
    """Its own expansion of the images, from the text of its own template where that ends turns as in training."""
    architecture, processor = case
    trained = training_processor(processor, FAMILIES[architecture], "x")
    found = record(two_rounds())
    pictures = [Image.new("RGB", IMAGES[name]) for name in ("0.png", "crops/0.png")]
    text = trained.apply_chat_template(found.messages, tokenize=False)
    if architecture != "llava":
        assert text == processor.apply_chat_template(found.messages, tokenize=False)
    inputs = trained(text=text, images=pictures)
    ids = np.array(inputs["input_ids"][0])
    counts = [len(run) for run in np.split(ids, np.flatnonzero(np.diff(ids == processor.image_token_id)) + 1)
              if run[0] == processor.image_token_id]  # fmt: skip
    assert encode(trained, found, counts).input_ids.tolist() == ids.tolist()


def test_a_template_of_the_checkpoints_own_with_markers_is_kept() -> None:
    processor = build("llava")[1]
    processor.chat_template = vicuna_template("")
    assert training_processor(processor, FAMILIES["llava"], "x") is processor
    encoded = encode(processor, record(two_rounds()), [2, 2])
    said = processor.tokenizer.decode(encoded.input_ids[encoded.labels != IGNORED])
    assert said == f" {BOX}</s> yes</s>"


@pytest.mark.parametrize(
    ("old", "new"),
    [("USER", "HUMAN"), ("'ASSISTANT:'", "'ASSISTANT: '"), ("{{ '<image>\\n' }}", "{{ '<image>' }}")],
)
def test_a_template_that_says_otherwise_than_the_familys_is_refused(old: str, new: str) -> None:
    processor = build("llava")[1]
    who = "('USER' if m['role'] == 'user' else 'ASSISTANT')"
    processor.chat_template = LLAVA_TEMPLATE.replace("m['role'].upper()", who)
    assert old in processor.chat_template
    training_processor(processor, FAMILIES["llava"], "x")
    processor.chat_template = processor.chat_template.replace(old, new)
    with pytest.raises(UserError, match="says otherwise than that of llava"):
        training_processor(processor, FAMILIES["llava"], "x")


def test_qwens_template_takes_strings_and_videos_as_the_checkpoints_does() -> None:
    processor = build("qwen2_5_vl")[1]
    processor.chat_template = QWEN_TEMPLATE
    trained = training_processor(processor, FAMILIES["qwen2_5_vl"], "x")
    turns = [("system", "Be brief."), ("user", "why?"), ("assistant", "so")]
    messages = [{"role": role, "content": text} for role, text in turns]
    assert trained.apply_chat_template(messages, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nwhy?<|im_end|>\n"
        "<|im_start|>assistant\nso<|im_end|>\n"
    )
    video = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "why?"}]}]
    text = trained.apply_chat_template(video, tokenize=False)
    assert "<|vision_start|><|video_pad|><|vision_end|>why?" in text


def test_a_template_that_says_otherwise_of_strings_is_refused() -> None:
    processor = build("qwen2_5_vl")[1]
    processor.chat_template = QWEN_TEMPLATE.replace("{{ m['content'] }}", "{{ '- ' + m['content'] }}")
    with pytest.raises(UserError, match="says otherwise than that of qwen2_5_vl"):
        training_processor(processor, FAMILIES["qwen2_5_vl"], "x")


def test_markers_that_leave_out_the_end_token_do_not_count() -> None:
    processor = build("llava")[1]
    processor.chat_template = vicuna_template("").replace("+ '</s>' }}{% endgeneration %}", "}}{% endgeneration %}</s>")
    with pytest.raises(UserError, match="does not mark answers"):
        training_processor(processor, FAMILIES["llava"], "x")


def test_text_that_imitates_an_image_is_named(case: tuple[str, Any]) -> None:
    architecture, processor = case
    trained = training_processor(processor, FAMILIES[architecture], "x")
    turns = (Turn("user", (f"what is {processor.image_token}?",)), Turn("assistant", ("a token",)))
    imitating = Record("x", (), None, turns)
    with pytest.raises(ValueError, match="1 image tokens in the text for 0 images"):
        encode(trained, imitating, [])


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("internvl", "has markers among its tokens"), ("llava_onevision", "depends on its conversation's other images")],
)
def test_images_of_more_than_image_tokens_are_refused(architecture: str, reason: str) -> None:
    processor = build(architecture)[1]
    with pytest.raises(UserError, match=f"fine-tuning is not supported for {architecture}: .* {reason}"):
        training_processor(processor, FAMILIES[architecture], "x")


def test_a_model_without_a_family_is_not_trained() -> None:
    with pytest.raises(UserError, match=r"base: training needs to know .* model_type 'mllama' has no family"):
        training_processor(None, family_for("mllama", "base"), "base")
