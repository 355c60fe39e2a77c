"""What random models are made of: a vocabulary, a byte-level tokenizer, small configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

__all__ = ["WORDS", "byte_tokenizer", "clip", "llama"]

TEXT = (
    "is there a red cup on the left of table what colour has small ball behind tree how many people are in picture "
    "please provide bounding box coordinate region this question asks combine information from these two images and "
    "answer using single word or phrase yes no blue green yellow kitchen street 0 1 2 3 4 5 6 7 8 9"
)
WORDS = tuple(TEXT.split())


def byte_tokenizer(
    special: tuple[str, ...], end: str, begin: str | None = None, named: Mapping[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """One with the ``special`` tokens; some processors ask it for those that are ``named``."""
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
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, bos_token=begin, pad_token=end, extra_special_tokens=dict(named or {})
    )


def llama(tokenizer: PreTrainedTokenizerFast, **kwargs: Any) -> LlamaConfig:
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


def clip() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=24, patch_size=6
    )
