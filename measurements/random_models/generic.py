"""Architectures without a family of their own: cross attention, convolutions with a state."""

from __future__ import annotations

from typing import Any

from transformers import (
    Lfm2Config,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    Siglip2VisionConfig,
)
from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from measurements.random_models.parts import byte_tokenizer

__all__ = ["BUILDERS"]

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}

_LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{% for c in m['content'] %}{{ '<|image|>' if c['type'] == 'image' else c['text'] | trim }}{% endfor %}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_CHATML_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _mllama() -> tuple[Any, Any]:
    """Llama 3.2 Vision: the language model attends to the image's tiles in layers of their own."""
    special = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>")
    tokenizer = byte_tokenizer((*special, "<|image|>"), "<|eot_id|>", "<|begin_of_text|>")
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessor(size={"height": 24, "width": 24}, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=_LLAMA_TEMPLATE,
    )
    vision = MllamaVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_global_layers=1,
        attention_heads=2,
        vision_output_dim=96,
        intermediate_layers_indices=[0, 1],
        image_size=24,
        patch_size=6,
    )
    text = MllamaTextConfig(
        **_SIZES,
        num_hidden_layers=4,
        cross_attention_layers=[1, 3],
        vocab_size=len(tokenizer),
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=image)
    model = MllamaForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if "cross_attn" in name and name.endswith("gate"):
            weight.data.fill_(0.8)  # they begin at 0, and no image would change an answer
    return model, processor


def _lfm2_vl() -> tuple[Any, Any]:
    """LFM2-VL: layers with short convolutions that keep a state, tiles of any aspect ratio."""
    special = ("<|startoftext|>", "<|im_end|>", "<|im_start|>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>")
    tiles = tuple(f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5))
    tokenizer = byte_tokenizer((*special, *tiles, "<image>"), "<|im_end|>", "<|startoftext|>")
    processor = Lfm2VlProcessor(
        image_processor=Lfm2VlImageProcessor(
            tile_size=32, encoder_patch_size=4, min_image_tokens=4, max_image_tokens=16, max_tiles=4
        ),
        tokenizer=tokenizer,
        chat_template=_CHATML_TEMPLATE,
    )
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Lfm2VlConfig(
        vision_config=Siglip2VisionConfig(**vision, patch_size=4, num_patches=64),
        text_config=Lfm2Config(
            **_SIZES,
            num_hidden_layers=4,
            layer_types=["conv", "full_attention", "conv", "full_attention"],
            block_multiple_of=16,
            vocab_size=len(tokenizer),
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projector_hidden_size=48,
        tie_word_embeddings=False,
    )
    return Lfm2VlForConditionalGeneration(config), processor


BUILDERS = {"mllama": _mllama, "lfm2_vl": _lfm2_vl}
