"""Prompts and pixels: what the original model was given, the converted one is given too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPImageProcessor

from dualfocus_eval.cli.main import main
from dualfocus_eval.engines.processors import padding_processor
from measurements.original_llava import IMAGE_SIDE, PATCH, TEXT, write_checkpoint

PATCHES = (IMAGE_SIDE // PATCH) ** 2
SYSTEM = TEXT.partition(" USER")[0] + (
    " The assistant gives helpful, detailed, and polite answers to the user's questions."
)
Q1, A1, Q2 = "what colour is it?", "[0.12, 0.34, 0.56, 0.78]", "the region\nof it?"
MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": Q1}]},
    {"role": "assistant", "content": [{"type": "text", "text": A1}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": Q2}]},
]
ORIGINAL_TEXT = f"{SYSTEM} USER: <image>\n{Q1} ASSISTANT: {A1}</s>USER: <image>\n{Q2} ASSISTANT:"


def processor_of(source: Path, out: Path) -> Any:
    assert main(["convert", "llava", str(source), str(out), "--vision-tower", str(source / "tower")]) == 0
    return AutoProcessor.from_pretrained(out)


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("processor")
    write_checkpoint(folder / "source")
    return processor_of(folder / "source", folder / "out")


def test_turns_are_vicunas(processor: Any) -> None:
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    assert text.replace("<image> \n", "<image>\n") == ORIGINAL_TEXT
    system = {"role": "system", "content": "be brief"}
    assert processor.apply_chat_template([system, MESSAGES[0]]).startswith("be brief USER: <image>")
    plain = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]
    assert processor.apply_chat_template(plain) == f"{SYSTEM} USER: hello ASSISTANT: yes</s>"


def test_the_marked_tokens_are_the_answer_and_its_end(processor: Any) -> None:
    tokens = processor.tokenizer.apply_chat_template(
        [*MESSAGES, {"role": "assistant", "content": "red"}],
        chat_template=processor.chat_template,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    spoken = [number for number, own in zip(tokens["input_ids"], tokens["assistant_masks"], strict=True) if own]
    assert processor.tokenizer.decode(spoken) == f"{A1}</s> red</s>"


def test_images_are_padded_not_cropped(processor: Any) -> None:
    image = Image.effect_noise((60, 20), 90).convert("RGB")
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    expected = padding_processor(CLIPImageProcessor(size={"shortest_edge": IMAGE_SIDE}, crop_size=side))
    found = processor.image_processor([image], return_tensors="pt")["pixel_values"]
    assert torch.equal(found, expected([image], return_tensors="pt")["pixel_values"])
    assert found[0, :, 0].abs().max() < 0.02  # the mean colour


@pytest.mark.parametrize("legacy", [True, False, None])
def test_ids_from_tokenizer_model_are_the_originals(tmp_path: Path, legacy: bool | None) -> None:
    """Against SentencePiece itself, each piece of text between two images tokenized on its own."""
    spm = pytest.importorskip("sentencepiece")
    source = tmp_path / "source"
    write_checkpoint(source)
    (tmp_path / "corpus.txt").write_text(f"{SYSTEM}\n{TEXT}\n" * 20)
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(source / "tokenizer"),
        vocab_size=440,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    settings = {"model_max_length": 2048} | ({} if legacy is None else {"legacy": legacy})
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    (source / "added_tokens.json").write_text(json.dumps({"<pad>": 440}))
    processor = processor_of(source, tmp_path / "out")
    assert processor.tokenizer.model_max_length == 2048
    assert (processor.tokenizer.pad_token_id, processor.image_token_id) == (440, 441)

    pieces = spm.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    expected = [1]
    for number, chunk in enumerate(ORIGINAL_TEXT.split("<image>")):
        expected += [processor.image_token_id] * PATCHES if number else []
        start, *later = chunk.split("</s>")
        expected += pieces.encode(start)
        for text in later:
            # Without `legacy`, text after a special token gets no space of its own.
            expected += [2, *(_continued(pieces, text) if legacy is False else pieces.encode(text))]
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    images = [Image.new("RGB", (30, 20)), Image.new("RGB", (20, 20))]
    assert processor(text=text, images=images)["input_ids"][0] == expected


def _continued(pieces: Any, text: str) -> list[int]:
    """Ids of ``text`` without the space at its beginning: after a byte, with which nothing merges."""
    found: list[int] = pieces.encode("\n" + text)[2:]
    return found


def test_tokenizer_model_without_sentencepiece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    write_checkpoint(source)
    (source / "tokenizer.model").write_bytes(b"nothing of the kind")
    arguments = ["convert", "llava", str(source), str(tmp_path / "out"), "--vision-tower", str(source / "tower")]
    assert main(arguments) == 2
    assert "not a SentencePiece model, or damaged" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert main(arguments) == 2
    assert "sentencepiece is needed to read it; pip install sentencepiece" in capsys.readouterr().err
