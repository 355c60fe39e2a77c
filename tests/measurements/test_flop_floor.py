"""The floor of the speed benchmark against what torch counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.checkpoint import prepare
from dualfocus_eval.engines.image_inputs import ImageEncoder
from dualfocus_eval.engines.rendering import Prompt, Renderer
from dualfocus_eval.engines.template import ChatTemplate
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.method.conversations import macro_conversation
from measurements.flop_floor import Floor
from measurements.performance_model import questions
from measurements.sized_models import build


@pytest.fixture(scope="module")
def checkpoint():
    model, processor = build("llava", "tiny")
    return prepare(model, processor, FAMILIES["llava"], "tiny")


@pytest.fixture(scope="module")
def prompts(checkpoint) -> list[Prompt]:
    """Two questions about one image, and one about another."""
    encoder = ImageEncoder(checkpoint.model, checkpoint.processor, checkpoint.family, Counters())
    renderer = Renderer(encoder, ChatTemplate.of(checkpoint))
    asked, _ = questions(2, 2, seed=0)
    return [renderer.render(macro_conversation(question)) for question in asked[:3]]


def test_one_prompt_is_what_torch_counts_less_what_a_plain_forward_wastes(checkpoint, prompts) -> None:
    model, prompt = checkpoint.model, prompts[0]
    inputs = ImageEncoder(model, checkpoint.processor, checkpoint.family, Counters()).preprocess(prompt.pictures[0])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.tensor([prompt.ids]), **inputs.tensors, use_cache=False, logits_to_keep=1)
    text, vision = model.config.text_config, model.config.vision_config
    length, patches = len(prompt.ids), inputs.tokens + 1
    not_yet_there = 4 * text.hidden_size * text.num_hidden_layers * (length * length - length * (length + 1) // 2)
    width = vision.hidden_size
    last_layer = 2 * patches * (4 * width * width + 2 * width * vision.intermediate_size) + 4 * patches**2 * width
    floor = Floor(model)
    floor.add(prompt, (5,))
    assert floor.flops == counter.get_total_flops() - not_yet_there - last_layer


def test_what_prompts_have_in_common_counts_once(checkpoint, prompts) -> None:
    first, second, other = prompts
    common = next(n for n, (a, b) in enumerate(zip(first.ids, second.ids, strict=False)) if a != b)
    floor = Floor(checkpoint.model)
    for prompt in (first, second, second):
        floor.add(prompt, (5, 6))
    assert len(floor.pictures) == 1
    # The first token of an answer is fed, the second predicts nothing that is asked for.
    assert len(floor.nodes) == len(first.ids) + 1 + len(second.ids) + 1 - common
    assert len(floor.asked) == 4
    before = len(floor.nodes)
    floor.add(other, (5, 6))
    assert len(floor.pictures) == 2
    # Another image: the same placeholder tokens are other positions; only what precedes it is shared.
    assert len(floor.nodes) == before + len(other.ids) + 1 - other.spans[0][0]
