"""A LLaVA checkpoint with random weights, small enough to run in a test, that often writes boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from transformers import GenerationConfig

from measurements.random_models import build

BOXES = tuple(
    f"[{x / 10:.2f}, {y / 10:.2f}, {(x + side) / 10:.2f}, {(y + side) / 10:.2f}]"
    for x, y, side in product(range(0, 7, 2), range(0, 7, 2), (2, 3, 4))
)
"""Each is one token, so that greedy decoding over random weights meets one now and then, and both pathways run."""

TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% if m['content'] is string %}{{ m['content'] + ' ' }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ '<image>\\n' }}{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endif %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""Takes plain strings too, which lmms-eval's llava_hf passes for simple tasks."""


def save_tiny_llava(
    folder: Path,
    seed: int = 0,
    *,
    architecture: str = "llava",
    boxes: Sequence[str] = BOXES,
    template: str | None = TEMPLATE,
) -> Path:
    """Write the checkpoint (model, processor, chat template) to ``folder`` and return it.

    Without ``template`` it has that of its architecture.
    """
    model, processor = build(architecture, seed=seed)
    tokenizer = processor.tokenizer
    tokenizer.add_tokens([f" {box}" for box in boxes])
    generator = torch.Generator().manual_seed(seed + 1)
    old = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            weight[old:] = torch.randn(weight[old:].shape, generator=generator) * 0.6
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id
    )
    processor.chat_template = template or processor.chat_template
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
