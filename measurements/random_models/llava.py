"""LLaVA-1.5 and LLaVA-NeXT."""

from __future__ import annotations

from typing import Any

from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
)

from measurements.random_models.parts import byte_tokenizer, clip, llama

__all__ = ["BUILDERS", "LLAVA_TEMPLATE"]

LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ '<image>\\n' }}{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAVA_NEXT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'][0]['text'] + '</s>' }}"
    "{% else %}{{ '[INST] ' if m['role'] == 'user' else '<<SYS>>' }}"
    "{% for c in m['content'] %}{{ '<image>\\n' if c['type'] == 'image' else c['text'] }}{% endfor %}"
    "{{ ' [/INST]' if m['role'] == 'user' else '<</SYS>> ' }}{% endif %}{% endfor %}"
)


def _llava() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(("<s>", "</s>", "<image>"), "</s>", "<s>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"height": 24, "width": 24}, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=6,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=clip(),
        text_config=llama(tokenizer),
        image_token_index=processor.image_token_id,
        vision_feature_layer=-2,
        image_seq_length=16,
    )
    return LlavaForConditionalGeneration(config), processor


def _llava_next() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(("<s>", "</s>", "<image>"), "</s>", "<s>")
    grid = [[24, 48], [48, 24], [48, 48]]
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, image_grid_pinpoints=grid
        ),
        tokenizer=tokenizer,
        patch_size=6,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_NEXT_TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config=clip(),
        text_config=llama(tokenizer, num_key_value_heads=2),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=grid,
        vision_feature_layer=-2,
    )
    return LlavaNextForConditionalGeneration(config), processor


BUILDERS = {"llava": _llava, "llava_next": _llava_next}
