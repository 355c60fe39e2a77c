"""The prompts that servers are held to are those of the checkpoint's own processor, for every architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from dualfocus_eval.engines.base import Conversation, Message, Picture
from dualfocus_eval.engines.server.probing import sample_conversation
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.template import ChatTemplate
from measurements.original_llava import write_tokenizer
from measurements.random_models import ARCHITECTURES
from measurements.random_models.llava import LLAVA_TEMPLATE


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def tokens(request: pytest.FixtureRequest) -> PromptTokens:
    _, processor = ARCHITECTURES[request.param]()
    end = processor.tokenizer.eos_token_id
    return PromptTokens(ChatTemplate(processor, frozenset([end]), end))


@pytest.mark.parametrize("images", [1, 2])
def test_segments_are_the_processor_s(tokens: PromptTokens, images: int) -> None:
    conversation = sample_conversation(images, ["a label"] * (images - 1))
    prompt = _processed(tokens.template, conversation)
    segments = tokens.segments(conversation)
    assert len(segments) == images + 1
    assert PromptTokens.agree(segments, prompt)
    assert not PromptTokens.agree(segments, prompt[:-1])
    assert not PromptTokens.agree(segments, [*prompt[:1], prompt[0], *prompt[1:]])


def test_generated_turns_are_sent_as_texts_that_the_template_writes_as_they_were(tokens: PromptTokens) -> None:
    if "assistant \n" in tokens.template.text([_turn("user"), _turn("assistant")], continued=False):
        pytest.skip("LLaVA-OneVision's template writes a space before an answer that it does not write for a new one")
    _check_turn(tokens, f"{tokens.template._gap}a label")


@pytest.mark.parametrize("gap", [" ", ""])
def test_a_space_that_sentencepiece_hides_is_sent_unless_the_template_writes_it(tmp_path: Path, gap: str) -> None:
    write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    _, processor = ARCHITECTURES["llava"]()
    processor.tokenizer, processor.image_token_id = tokenizer, tokenizer.convert_tokens_to_ids("<image>")
    processor.chat_template = LLAVA_TEMPLATE.replace("+ ': ' }}", f"+ (': ' if m['role'] == 'user' else ':{gap}') }}}}")
    end = tokenizer.eos_token_id
    _check_turn(PromptTokens(ChatTemplate(processor, frozenset([end]), end)), " red box")


def _turn(role: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": "?"}]}


def _check_turn(tokens: PromptTokens, text: str) -> None:
    """The server's prompt has the ids of an answer ``text`` where it is told, and where it has begun."""
    template = tokens.template
    ids = tuple(template.encode_later(text))
    first, _, second = sample_conversation(2, [""])
    told = (first, Message("assistant", ("what the server wrote",), ids), second)
    written = tuple(replace(message, token_ids=None) for message in tokens.sent(told))
    assert PromptTokens.agree(tokens.segments(told), _processed(template, written))
    (whole, _), *_ = template.pieces((first, Message("assistant", (template.begun_text(ids),)), second))
    (begun, _), *_ = template.pieces(told)
    assert whole.startswith(begun + template.decode_later(ids))


def _processed(template: ChatTemplate, conversation: Conversation) -> list[int]:
    """Ids of the prompt as transformers alone makes it."""
    processor: Any = template.processor
    (piece, _), *none = template.pieces(conversation)
    assert not none
    images = [part.pixels for message in conversation for part in message.content if isinstance(part, Picture)]
    inputs = processor(
        text=[piece], images=[images], return_tensors="pt", add_special_tokens=template.adds_begin(piece)
    )
    return [int(token) for token in inputs["input_ids"][0]]
