"""Checkpoints with random weights on disk, of every architecture: small enough to run in a test, and writing boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from dualfocus_eval.families import family_for
from dualfocus_eval.families.conventions import UNIT_BOX, Convention
from measurements.random_models import build

__all__ = ["BOXES", "boxes_of", "save_random_checkpoint"]

PIXELS = 40
"""Of a picture's side, for conventions in pixels: what the random models' processors resize to."""


def boxes_of(convention: Convention) -> tuple[str, ...]:
    """Boxes as models of ``convention`` write them."""
    scale = convention.scale or PIXELS
    corners = [
        (x / 10, y / 10, (x + side) / 10, (y + side) / 10)
        for x, y, side in product(range(0, 7, 2), range(0, 7, 2), (2, 3, 4))
    ]
    return tuple(
        convention.template.format(*(f"{part * scale:.{convention.decimals}f}" for part in box)) for box in corners
    )


BOXES = boxes_of(UNIT_BOX)

LLAVA_WITH_STRINGS = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% if m['content'] is string %}{{ m['content'] + ' ' }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ '<image>\\n' }}{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endif %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""LLaVA-1.5's template, which takes plain strings too: lmms-eval's llava_hf passes them for simple tasks."""


def save_random_checkpoint(
    folder: Path, architecture: str = "llava", seed: int = 0, *, boxes: Sequence[str] | None = None
) -> Path:
    """Write the checkpoint (model, processor, chat template) to ``folder`` and return it.

    Each of ``boxes``, by default those of its family's convention, is one token, so that greedy decoding over random
    weights meets one now and then, and both pathways run.
    """
    model, processor = build(architecture, seed=seed)
    if boxes is None:
        boxes = boxes_of(family_for(model.config.model_type, architecture).box_convention)
    if boxes:
        add_words(model, processor.tokenizer, [f" {box}" for box in boxes], seed)
    end = processor.tokenizer.eos_token_id
    model.generation_config = GenerationConfig(
        eos_token_id=end, pad_token_id=end, bos_token_id=processor.tokenizer.bos_token_id
    )
    if architecture == "llava":
        processor.chat_template = LLAVA_WITH_STRINGS
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    pad_left(folder / "tokenizer_config.json")
    return folder


def pad_left(file: Path) -> None:
    """As the tokenizers of released checkpoints do; saving leaves it out, and some of lmms-eval's classes need it."""
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))


def add_words(model: Any, tokenizer: Any, words: Sequence[str], seed: int) -> None:
    """Make each of ``words`` a token that the model writes more often than others."""
    tokenizer.add_tokens(words)
    generator = torch.Generator().manual_seed(seed + 1)
    old = model.get_output_embeddings().weight.shape[0]
    beyond = model.get_input_embeddings().weight[old:].clone()  # rows of Llama 3.2 Vision's that no token is written by
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            weight[old:] = torch.randn(weight[old:].shape, generator=generator) * 0.6
    if len(beyond):
        embedding = model.get_input_embeddings()
        embedding.weight = torch.nn.Parameter(torch.cat([embedding.weight, beyond]).detach())
