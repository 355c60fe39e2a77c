"""Small vision-language models with random weights, built in code: every architecture that the engine supports.

The weights are drawn with a large spread, so that the next-token distributions are far from flat and answers differ in
content and length. Tokenizer, processor and chat template are built here too: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

__all__ = ["ARCHITECTURES", "WORDS", "build"]

TEXT = (
    "is there a red cup on the left of table what colour has small ball behind tree how many people are in picture "
    "please provide bounding box coordinate region this question asks combine information from these two images and "
    "answer using single word or phrase yes no blue green yellow kitchen street 0 1 2 3 4 5 6 7 8 9"
)
WORDS = tuple(TEXT.split())

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
QWEN_TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")


def _tokenizer(special: tuple[str, ...], end: str, begin: str | None = None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(WORDS), "USER: ASSISTANT: [0.25, 0.50, 0.75, 1.00]"] * 3, trainer)
    if begin is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, bos_token=begin, pad_token=end)


def _llama(tokenizer: PreTrainedTokenizerFast, **kwargs: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=kwargs.pop("num_key_value_heads", 4),
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        **kwargs,
    )


def _clip() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=24, patch_size=6
    )


def _llava() -> tuple[Any, Any]:
    tokenizer = _tokenizer(("<s>", "</s>", "<image>"), "</s>", "<s>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"height": 24, "width": 24}, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=6,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=_clip(),
        text_config=_llama(tokenizer),
        image_token_index=processor.image_token_id,
        vision_feature_layer=-2,
        image_seq_length=16,
    )
    return LlavaForConditionalGeneration(config), processor


def _llava_next() -> tuple[Any, Any]:
    tokenizer = _tokenizer(("<s>", "</s>", "<image>"), "</s>", "<s>")
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
        vision_config=_clip(),
        text_config=_llama(tokenizer, num_key_value_heads=2),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=grid,
        vision_feature_layer=-2,
    )
    return LlavaNextForConditionalGeneration(config), processor


def _qwen(processor_class: Any, config_class: Any, model_class: Any, vision: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = _tokenizer((*QWEN_SPECIAL, "<|image_pad|>", "<|video_pad|>"), "<|im_end|>")
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    processor = processor_class(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 256, "longest_edge": 1600}, **sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=QWEN_TEMPLATE,
    )
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    config = config_class(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            "tie_word_embeddings": False,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, **vision},
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    return model_class(config), processor


def _qwen2_vl() -> tuple[Any, Any]:
    vision = {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    return _qwen(Qwen2VLProcessor, Qwen2VLConfig, Qwen2VLForConditionalGeneration, vision)


def _qwen2_5_vl() -> tuple[Any, Any]:
    vision = {
        "hidden_size": 32,
        "out_hidden_size": 64,
        "intermediate_size": 48,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    return _qwen(Qwen2_5_VLProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision)


ARCHITECTURES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
}


def build(architecture: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Any, Any]:
    """(model, processor) of ``architecture`` with random weights; the same weights for the same seed in every dtype.

    Several tokens end an answer, so that answers differ in length; Qwen2.5-VL has a repetition penalty, as its
    published checkpoints have.
    """
    torch.manual_seed(seed)
    model, processor = ARCHITECTURES[architecture]()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                spread = 0.5 if "lm_head" in name or "embed_tokens" in name else 0.15
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            elif name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
        # Nothing generates a picture's placeholder: a plain generate could not tell it from a picture's.
        placeholders = processor.tokenizer.convert_tokens_to_ids(
            [
                token
                for token in ("<image>", "<|image_pad|>", "<|video_pad|>")
                if token in processor.tokenizer.get_vocab()
            ]
        )
        model.lm_head.weight[placeholders] = 0.0
    ends = torch.randperm(len(processor.tokenizer) - 20, generator=generator)[:14] + 20
    model.generation_config = GenerationConfig(
        eos_token_id=[processor.tokenizer.eos_token_id, *sorted(ends.tolist())],
        pad_token_id=processor.tokenizer.eos_token_id,
        repetition_penalty=1.1 if architecture == "qwen2_5_vl" else None,
    )
    return model.to(dtype).eval(), processor
