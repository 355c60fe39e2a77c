"""The converted checkpoint's processor: LLaVA-1.5's padded images and vicuna_v1's turns."""

from __future__ import annotations

from transformers import CLIPVisionConfig, LlavaImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

from dualfocus_eval.convert.tokenizer import IMAGE_TOKEN, image_gap

__all__ = ["build_processor", "vicuna_template"]

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def build_processor(tokenizer: PreTrainedTokenizerFast, tower: CLIPVisionConfig) -> LlavaProcessor:
    """Images are padded to a square with CLIP's mean colour and resized, so that no border is cropped away."""
    side = {"height": tower.image_size, "width": tower.image_size}
    return LlavaProcessor(
        image_processor=LlavaImageProcessor(do_pad=True, do_center_crop=False, size=side, crop_size=side),
        tokenizer=tokenizer,
        patch_size=tower.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=vicuna_template(image_gap(tokenizer)),
    )


def vicuna_template(gap: str) -> str:
    """LLaVA-1.5's conversations, images first in their turn and ``gap`` after each; takes plain strings too.

    The generation markers enclose what the assistant generates: the space before the answer, and the end token.
    """
    text = (
        "{% macro text(content) %}{% if content is string %}{{ content }}{% else %}"
        "{% for part in content if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}{% endmacro %}"
    )
    images = (
        "{% if content is not string %}{% for part in content if part['type'] == 'image' %}"
        + f"{{{{ '{IMAGE_TOKEN}{gap}\\n' }}}}"
        + "{% endfor %}{% endif %}"
    )
    return (
        text
        + f'{{% if messages[0]["role"] != "system" %}}{{{{ "{_SYSTEM} " }}}}{{% endif %}}'
        + "{% for message in messages %}{% set content = message['content'] %}"
        + "{% if message['role'] == 'system' %}{{ text(content) + ' ' }}"
        + "{% elif message['role'] == 'assistant' %}ASSISTANT:"
        + "{% generation %}{{ ' ' + text(content) + '</s>' }}{% endgeneration %}"
        + "{% else %}{{ 'USER: ' }}"
        + images
        + "{{ text(content) + ' ' }}{% endif %}{% endfor %}"
        + "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
