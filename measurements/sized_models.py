"""LLaVA-1.5 and Qwen2.5-VL of a given size with random weights that are drawn on the device, for measuring speed.

The end token and whatever the tokenizer does not know have output weights of zero. They are never the likeliest token,
in whatever runs the model, so every answer takes exactly the tokens that it may take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from measurements.random_models.llava import LLAVA_TEMPLATE
from measurements.random_models.parts import byte_tokenizer
from measurements.random_models.qwen import QWEN_SPECIAL, QWEN_TEMPLATE

__all__ = ["SIZES", "build", "skeleton"]


@dataclass(frozen=True)
class Size:
    """Widths and depths of the vision encoder and of the decoder, as their configurations name them."""

    vision: Mapping[str, Any]
    text: Mapping[str, Any]


SIZES: Mapping[str, Mapping[str, Size]] = {
    "llava": {
        # For trying out the code path; four image tokens.
        "tiny": Size(
            {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "image_size": 28,
            },
            {
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "vocab_size": 512,
            },
        ),
        # Vision encoder and output layer have about the share of the parameters that they have in LLaVA-1.5-7B.
        "100m": Size(
            {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4},
            {
                "hidden_size": 768,
                "intermediate_size": 2048,
                "num_hidden_layers": 13,
                "num_attention_heads": 12,
                "vocab_size": 2048,
            },
        ),
        "7b": Size(
            {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
            {
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "vocab_size": 32064,
            },
        ),
    },
    "qwen2_5_vl": {
        "tiny": Size(
            {
                "hidden_size": 32,
                "out_hidden_size": 64,
                "intermediate_size": 48,
                "depth": 2,
                "num_heads": 2,
                "fullatt_block_indexes": [1],
            },
            {
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "vocab_size": 512,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            },
        ),
        "7b": Size(
            {
                "hidden_size": 1280,
                "out_hidden_size": 3584,
                "intermediate_size": 3420,
                "depth": 32,
                "num_heads": 16,
                "fullatt_block_indexes": [7, 15, 23, 31],
            },
            {
                "hidden_size": 3584,
                "intermediate_size": 18944,
                "num_hidden_layers": 28,
                "num_attention_heads": 28,
                "num_key_value_heads": 4,
                "vocab_size": 152064,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            },
        ),
    },
}
"""By architecture and name; the 7B ones are LLaVA-1.5-7B and Qwen2.5-VL-7B."""


def build(
    architecture: str, size: str, device: str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Any, Any]:
    """(model, processor) with the weights drawn on ``device``; nothing of the model passes through the CPU's memory."""
    model, processor = skeleton(architecture, size, device, dtype)
    generator = torch.Generator(device).manual_seed(seed)
    tokenizer = processor.tokenizer
    special = [number for token, number in tokenizer.get_vocab().items() if token.startswith("<|")]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                # Sharp attention: with a flat one, every question would get the same answer.
                spread = 1.8 if "q_proj" in name or "k_proj" in name else 1.2
                weight.normal_(0.0, spread / weight[0].numel() ** 0.5, generator=generator)
        model.lm_head.weight[len(tokenizer) :] = 0.0
        model.lm_head.weight[[tokenizer.eos_token_id, processor.image_token_id, *special]] = 0.0
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    return model.eval().requires_grad_(False), processor


def skeleton(architecture: str, size: str, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """(model, processor) whose weights are whatever transformers begins with; on ``meta`` they take no memory."""
    model_class, config, processor = _BUILDERS[architecture](SIZES[architecture][size])
    with torch.device(device):
        model = model_class._from_config(config, dtype=dtype)
    return model, processor


def _llava(size: Size) -> tuple[Any, Any, Any]:
    """Pictures of 336 pixels take 576 tokens."""
    tokenizer = byte_tokenizer(("<s>", "</s>", "<image>"), "</s>", "<s>")
    vision = CLIPVisionConfig(**{"image_size": 336, "patch_size": 14, **size.vision})
    side = vision.image_size
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**size.text, max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id),
        image_token_index=processor.image_token_id,
        vision_feature_layer=-2,
        image_seq_length=(side // vision.patch_size) ** 2,
    )
    return LlavaForConditionalGeneration, config, processor


def _qwen2_5_vl(size: Size) -> tuple[Any, Any, Any]:
    """A picture takes a token for every 28 x 28 pixels."""
    tokenizer = byte_tokenizer((*QWEN_SPECIAL, "<|image_pad|>", "<|video_pad|>"), "<|im_end|>")
    sizes = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 12845056}, **sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=QWEN_TEMPLATE,
    )
    token_id = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            **size.text,
            "max_position_embeddings": 128000,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={"patch_size": 14, "spatial_merge_size": 2, "window_size": 112, **size.vision},
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    return Qwen2_5_VLForConditionalGeneration, config, processor


_BUILDERS: Mapping[str, Callable[[Size], tuple[Any, Any, Any]]] = {"llava": _llava, "qwen2_5_vl": _qwen2_5_vl}
