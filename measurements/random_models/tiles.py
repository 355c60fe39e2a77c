"""Models that see a picture as tiles: InternVL, LLaVA-OneVision, Idefics3 and SmolVLM."""

from __future__ import annotations

from typing import Any

from transformers import (
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from measurements.random_models.parts import byte_tokenizer, llama

__all__ = ["BUILDERS"]

SIDE, PATCH = 24, 6
"""Of a tile and of a patch, in pixels: 16 patches a tile."""

_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INTERNVL_TEMPLATE = _CHATML.replace("IMAGE", "<IMG_CONTEXT>\n")
LLAVA_ONEVISION_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} "
    "{% for c in m['content'] if c['type'] == 'image' %}<image>{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ '\n' + c['text'] }}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS3_TEMPLATE = (
    "BEGIN{% for m in messages %}{{ m['role'].capitalize() }}:{{ '' if m['content'][0]['type'] == 'image' else ' ' }}"
    "{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def _qwen(model_type: str, vocabulary: int, end: int) -> dict[str, Any]:
    """The configuration of a language model."""
    return {
        "model_type": model_type,
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "eos_token_id": end,
    }


def _internvl() -> tuple[Any, Any]:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *names.values())
    tokenizer = byte_tokenizer(special, "<|im_end|>", named=names)
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size={"height": SIDE, "width": SIDE}, max_patches=6),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size={"height": SIDE, "width": SIDE}),
        image_seq_length=4,
        chat_template=INTERNVL_TEMPLATE,
    )
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [SIDE, SIDE],
            "patch_size": [PATCH, PATCH],
        },
        text_config=_qwen("qwen3", len(tokenizer), tokenizer.eos_token_id),
        image_token_id=processor.image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    return InternVLForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
    tokenizer = byte_tokenizer(special, "<|im_end|>")
    grid = [[rows * SIDE, columns * SIDE] for rows in (1, 2, 3) for columns in (1, 2, 3)]
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grid),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_3",  # so few that the features of large grids are scaled down
        chat_template=LLAVA_ONEVISION_TEMPLATE,
    )
    config = LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
        text_config=_qwen("qwen2", len(tokenizer), tokenizer.eos_token_id),
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        image_grid_pinpoints=grid,
        vision_aspect_ratio="anyres_max_3",
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


def _idefics3(begin: str, longest: int, image_processor: Any, config: Any, **names: str) -> tuple[Any, Any, Any]:
    """Image processor, tokenizer and configuration; ``longest`` edge of the picture before it is tiled, in pixels."""
    tiles = longest // SIDE
    special = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", begin, *names.values())
    markers = [f"<row_{row + 1}_col_{column + 1}>" for row in range(tiles) for column in range(tiles)]
    tokenizer = byte_tokenizer((*special, *markers), "<end_of_utterance>", named=names)
    images = image_processor(size={"longest_edge": longest}, max_image_size={"longest_edge": SIDE})
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    made = config(
        vision_config=vision,
        text_config=llama(tokenizer, num_key_value_heads=2, tie_word_embeddings=False),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    return images, tokenizer, made


def _idefics3_8b() -> tuple[Any, Any]:
    begin = "<|begin_of_text|>"
    images, tokenizer, config = _idefics3(begin, 3 * SIDE, Idefics3ImageProcessor, Idefics3Config)
    template = IDEFICS3_TEMPLATE.replace("BEGIN", begin)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template)
    return Idefics3ForConditionalGeneration(config), processor


def _smolvlm() -> tuple[Any, Any]:
    begin = "<|im_start|>"
    images, tokenizer, config = _idefics3(begin, 2 * SIDE, SmolVLMImageProcessor, SmolVLMConfig, video_token="<video>")
    template = IDEFICS3_TEMPLATE.replace("BEGIN", begin)
    videos = SmolVLMVideoProcessor(size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE})
    processor = SmolVLMProcessor(images, tokenizer, videos, image_seq_len=4, chat_template=template)
    return SmolVLMForConditionalGeneration(config), processor


BUILDERS = {
    "internvl": _internvl,
    "llava_onevision": _llava_onevision,
    "idefics3": _idefics3_8b,
    "smolvlm": _smolvlm,
}
