"""GLM-4.1V, GLM-4.5V and GLM-4.6V."""

from __future__ import annotations

from typing import Any

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
)

from measurements.random_models.parts import byte_tokenizer

__all__ = ["BUILDERS"]

TEMPLATE = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
VISION_TOKENS = ("begin_of_image", "end_of_image", "begin_of_video", "end_of_video", "image", "video")
SPECIAL = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")
SIZES = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
EXPERTS = {
    "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]},
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
}


def _glm(
    classes: tuple[Any, Any, Any, Any, Any], text: dict[str, Any] | None = None, kind: str = "glm4v"
) -> tuple[Any, Any]:
    image_processor, video_processor, processor_class, config_class, model_class = classes
    tokenizer = byte_tokenizer((*SPECIAL, *(f"<|{name}|>" for name in VISION_TOKENS)), "<|user|>")
    processor = processor_class(
        # Two frames are counted for a picture.
        image_processor=image_processor(size={"shortest_edge": 512, "longest_edge": 3200}, **SIZES),
        tokenizer=tokenizer,
        video_processor=video_processor(**SIZES),
        chat_template=TEMPLATE,
    )
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in VISION_TOKENS}
    config = config_class(
        text_config={
            "model_type": f"{kind}_text",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {**ROPE, "mrope_section": [2, 3, 3]},
            "eos_token_id": tokenizer.eos_token_id,
            **(text or {}),
        },
        vision_config={
            "model_type": f"{kind}_vision",
            "depth": 2,
            "num_heads": 2,
            "hidden_size": 32,
            "out_hidden_size": 64,
            "intermediate_size": 48,
            "image_size": 32,
            "patch_size": 4,
            "spatial_merge_size": 2,
        },
        image_token_id=ids["image"],
        video_token_id=ids["video"],
        image_start_token_id=ids["begin_of_image"],
        image_end_token_id=ids["end_of_image"],
        video_start_token_id=ids["begin_of_video"],
        video_end_token_id=ids["end_of_video"],
    )
    return model_class(config), processor


OLDER = (Glm4vImageProcessor, Glm4vVideoProcessor, Glm4vProcessor)


def _glm4v() -> tuple[Any, Any]:
    return _glm((*OLDER, Glm4vConfig, Glm4vForConditionalGeneration))


def _glm4v_moe() -> tuple[Any, Any]:
    return _glm((*OLDER, Glm4vMoeConfig, Glm4vMoeForConditionalGeneration), EXPERTS, "glm4v_moe")


def _glm46v() -> tuple[Any, Any]:
    classes = (Glm46VImageProcessor, Glm46VVideoProcessor, Glm46VProcessor)
    return _glm((*classes, Glm46VConfig, Glm46VForConditionalGeneration))


BUILDERS = {"glm4v": _glm4v, "glm4v_moe": _glm4v_moe, "glm46v": _glm46v}
