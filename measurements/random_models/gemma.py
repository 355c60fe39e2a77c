"""Gemma 3 and Gemma 4, with windows shorter than an image's tokens."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4VideoProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor

from measurements.random_models.parts import byte_tokenizer

__all__ = ["BUILDERS", "gemma4"]

# A system text becomes the beginning of the first user turn.
GEMMA3_TEMPLATE = (
    "{{ bos_token }}{% set ns = namespace(first='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% set ns.first = m['content'][0]['text'] + '\\n\\n' %}{% else %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ ns.first }}{% set ns.first = '' %}"
    "{% for c in m['content'] %}{{ '<start_of_image>' if c['type'] == 'image' else c['text'] | trim }}{% endfor %}"
    "<end_of_turn>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA4_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% for c in m['content'] %}{{ '<|image|>' if c['type'] == 'image' else c['text'] | trim }}{% endfor %}"
    "<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)


def _tokenizer(turns: tuple[str, str], named: dict[str, str]) -> PreTrainedTokenizerFast:
    """A byte tokenizer with the ``named`` special tokens, which an image's tokens and markers are."""
    special = ("<pad>", "<eos>", "<bos>", *turns, *named.values())
    backend = byte_tokenizer(special, turns[1], "<bos>").backend_tokenizer
    # As in the released ones line breaks in a row are one token, which is no special one.
    backend.add_tokens([AddedToken("\n" * count, normalized=False) for count in range(1, 6)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token=turns[1],
        pad_token="<pad>",
        extra_special_tokens=named,
    )


def _text(tokenizer: PreTrainedTokenizerFast, **settings: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,  # a random model with tied ones repeats its last token
        **settings,
    }


def _gemma3() -> tuple[Any, Any]:
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokenizer = _tokenizer(("<start_of_turn>", "<end_of_turn>"), named)
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        image_seq_length=16,
        chat_template=GEMMA3_TEMPLATE,
    )
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3Config(
        text_config=_text(
            tokenizer, num_hidden_layers=len(kinds), layer_types=kinds, sliding_window=10, query_pre_attn_scalar=16
        ),
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 4,
            "vision_use_head": False,
        },
        mm_tokens_per_image=16,
        tie_word_embeddings=False,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    return Gemma3ForConditionalGeneration(config), processor


def gemma4(**text: Any) -> tuple[Any, Any]:
    """(model, processor), with ``text`` in its text configuration."""
    named = {
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "image_token": "<|image|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
        "audio_token": "<|audio|>",
        "video_token": "<|video|>",
    }
    tokenizer = _tokenizer(("<|turn>", "<turn|>"), named)
    sizes = {"patch_size": 4, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    processor = Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Gemma4VideoProcessor(**sizes),
        image_seq_length=70,
        chat_template=GEMMA4_TEMPLATE,
    )
    # The last two share the states of the two before them.
    kinds = ["full_attention", *["sliding_attention", "full_attention"] * 2]
    config = Gemma4Config(
        text_config=_text(
            tokenizer,
            num_hidden_layers=len(kinds),
            layer_types=kinds,
            sliding_window=24,
            global_head_dim=32,
            final_logit_softcapping=30.0,
            vocab_size_per_layer_input=len(tokenizer),
            **{
                "hidden_size_per_layer_input": 8,
                "num_kv_shared_layers": 2,
                "use_bidirectional_attention": "vision",
                **text,
            },
        ),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 128,
        },
        boi_token_id=tokenizer.boi_token_id,
        eoi_token_id=tokenizer.eoi_token_id,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
        boa_token_id=tokenizer.boa_token_id,
        eoa_token_index=tokenizer.eoa_token_id,
        audio_token_id=tokenizer.audio_token_id,
        tie_word_embeddings=False,
    )
    return Gemma4ForConditionalGeneration(config), processor


BUILDERS = {"gemma3": _gemma3, "gemma4": gemma4}
