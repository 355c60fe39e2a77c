"""Detectors with random weights on disk, of both kinds that `grounding=detector` is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    PreTrainedTokenizerFast,
    SwinConfig,
)

from measurements.random_models.parts import WORDS, byte_tokenizer

__all__ = ["DETECTORS", "save_random_detector"]

SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
"""The ids of BERT's vocabulary, by which GroundingDINO tells phrases apart."""


def _owlv2() -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(
        ("<pad>", "<s>", "</s>"), "</s>", "<s>"
    )  # a text that begins with token 0 does not count
    tokenizer.model_max_length = 16
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config=small | {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2},
        vision_config=small | {"image_size": 48, "patch_size": 8},
        projection_dim=32,
    )
    images = Owlv2ImageProcessor(size={"height": 48, "width": 48})
    return Owlv2ForObjectDetection(config), Owlv2Processor(images, tokenizer)


def _bert_tokenizer() -> PreTrainedTokenizerFast:
    words = sorted({*WORDS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")})
    taken = set(SPECIAL.values())
    free = iter(number for number in range(1, 1100) if number not in taken)
    vocabulary = SPECIAL | {word: next(free) for word in words if word not in SPECIAL}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def _grounding_dino() -> tuple[Any, Any]:
    backbone = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 2, 2),
        window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = BertConfig(vocab_size=1100, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        num_queries=12,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        d_model=32,
        disable_custom_kernels=True,
    )
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    return GroundingDinoForObjectDetection(config), GroundingDinoProcessor(images, _bert_tokenizer())


DETECTORS = {"owlv2": _owlv2, "grounding-dino": _grounding_dino}


def save_random_detector(folder: Path, model_type: str = "owlv2", seed: int = 0) -> Path:
    """Write a detector (model and processor) to ``folder`` and return it. Random confidence is about a half, so that
    all but a few of its boxes count."""
    torch.manual_seed(seed)
    model, processor = DETECTORS[model_type]()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
