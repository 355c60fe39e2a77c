"""A small random model that thinks before it answers, under chat templates that behave as those of released ones."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch

from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.families import FAMILIES, Family
from measurements.random_models import build

__all__ = ["CLOSING", "OPENING", "TEMPLATES", "thinking_checkpoint"]

OPENING, CLOSING = "<think>", "</think>"
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_CONTENT = (
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    + _IMAGE
    + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
)
_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    + _CONTENT
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
)
"""Only the last turn, where it is the assistant's, has a block; the generation prompt may have one."""

TEMPLATES = {
    "opens": _TURNS + "<think>\n{% endif %}",  # Qwen3-VL-Thinking
    "opens by default": _TURNS  # Qwen3.5
    + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
    "{% endif %}",
    "closes by default": _TURNS  # Qwen3.5's smaller ones
    + "{% if enable_thinking is defined and enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}",
    "leaves it to the model": (  # GLM-4.5V
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' %}<think></think>\n{% endif %}"
        + _CONTENT
        + "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "prints contents": (  # GLM-4.1V-Thinking
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'user' %}" + _CONTENT + "{% else %}{{ m['content'] }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}


@functools.cache
def _model() -> tuple[Any, Any]:
    model, processor = build("qwen3_vl")
    processor.tokenizer.add_tokens([OPENING, CLOSING, "<answer>", "</answer>"])
    model.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in (model.lm_head.weight, model.get_input_embeddings().weight):
            weight[-4:] = torch.randn(4, weight.shape[1], generator=generator) * 0.5
        model.lm_head.weight[-2:] = 0.0  # the answer's markers come only where a test asks for them
    return model, processor


def thinking_checkpoint(
    template: str, *, opens: bool = False, answer_markers: bool = False, family: Family = FAMILIES["qwen3_vl"]
) -> Checkpoint:
    """The random model under that one of ``TEMPLATES``.

    Its thoughts are some tokens long and followed by an empty line. With ``opens`` it begins them itself, and with
    ``answer_markers`` it puts markers around its answers.
    """
    model, processor = _model()
    processor = copy.copy(processor)
    processor.chat_template = TEMPLATES[template]
    ids = processor.tokenizer.convert_tokens_to_ids
    *_, last, line = processor.tokenizer("assistant\n", add_special_tokens=False)["input_ids"]
    settings = copy.deepcopy(model.generation_config)
    settings.repetition_penalty = 1.5
    settings.sequence_bias = [[[ids(CLOSING)], 7.0 if opens else 6.0], [[ids(CLOSING), line], 30.0]]
    if opens:
        settings.sequence_bias.append([[last, line, ids(OPENING)], 60.0])
    if answer_markers:
        settings.sequence_bias += [[[ids(CLOSING), line, ids("<answer>")], 30.0], [[ids("</answer>")], 9.0]]
    model.generation_config, kept = settings, model.generation_config
    try:
        return prepare(model, processor, family, "thinking", digest="thinking")
    finally:
        model.generation_config = kept
