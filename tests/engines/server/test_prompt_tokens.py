"""The prompts that servers are held to are those of the checkpoint's own processor, for every architecture."""

from __future__ import annotations

from typing import Any

import pytest

from dualfocus_eval.engines.base import Conversation, Picture
from dualfocus_eval.engines.server.probing import sample_conversation
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.template import ChatTemplate
from measurements.random_models import ARCHITECTURES


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
