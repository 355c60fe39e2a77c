"""Mistral Small 3.1 with a Pixtral vision encoder: images of any size, a marker after every row of patches."""

from __future__ import annotations

from typing import Any

from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
)

from measurements.random_models.parts import byte_tokenizer

__all__ = ["BUILDERS"]

PATCH, MERGED, LONGEST = 4, 2, 48
"""Side of a patch in pixels, patches along the side of a token's square, and an image's longest edge in pixels."""

_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ m['content'][0]['text'] + eos_token }}"
    "{% else %}{{ '[INST]' if m['role'] == 'user' else '[SYSTEM_PROMPT]' }}"
    "{% for c in m['content'] %}{{ '[IMG]' if c['type'] == 'image' else c['text'] }}{% endfor %}"
    "{{ '[/INST]' if m['role'] == 'user' else '[/SYSTEM_PROMPT]' }}{% endif %}{% endfor %}"
)


def _mistral3() -> tuple[Any, Any]:
    special = ("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
    tokenizer = byte_tokenizer((*special, "[IMG]", "[IMG_BREAK]", "[IMG_END]"), "</s>", "<s>")
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessor(
            size={"longest_edge": LONGEST}, patch_size={"height": PATCH, "width": PATCH}
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        spatial_merge_size=MERGED,
        chat_template=_TEMPLATE,
    )
    config = Mistral3Config(
        vision_config=PixtralVisionConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=LONGEST,
            patch_size=PATCH,
        ),
        text_config=MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=2048,
            sliding_window=None,
        ),
        image_token_index=processor.image_token_id,
        spatial_merge_size=MERGED,
        tie_word_embeddings=False,
    )
    return Mistral3ForConditionalGeneration(config), processor


BUILDERS = {"mistral3": _mistral3}
