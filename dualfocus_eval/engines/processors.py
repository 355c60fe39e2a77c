"""Loading a checkpoint's processor, and finding out on one picture whether it serves the checkpoint's model."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor

from dualfocus_eval.common.errors import CheckpointError, UserError, first_line
from dualfocus_eval.engines.base import Counters, Engine, Failure, GenerateRequest, Message, Picture
from dualfocus_eval.engines.checkpoint_files import checkpoint_file, read_json
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.image_inputs import ImageEncoder, image_inputs
from dualfocus_eval.families import Family

__all__ = ["check_answers", "check_image_tokens", "padding_processor", "read_processor"]

_SETTINGS = "processor_config.json"
_SAME_RELEASE = "take processor and weights from the same release"
_ALIKE = {"Qwen2VLProcessor", "Qwen2_5_VLProcessor"}
"""Processors that prepare images and texts alike, so that either serves the other's models."""


def read_processor(config: EngineConfig, model_config: Any, family: Family) -> Any:
    """The processor that ``config`` asks for, tried on one picture and one conversation.

    Raises ``CheckpointError`` for one that cannot be used, ``UserError`` for options that do not apply to it.
    """
    name = config.pretrained
    try:
        processor = AutoProcessor.from_pretrained(
            name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except Exception as error:  # damaged files provoke errors of every kind in transformers and tokenizers
        raise CheckpointError(f"{name}: the processor cannot be loaded: {first_line(error)}") from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise CheckpointError(
            f"{name}: its processor files are incomplete (an image processor and a tokenizer are needed)"
        )
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise CheckpointError(f"{name}: no chat template; add chat_template.jinja to the checkpoint")
    if processor.chat_template is None:
        processor.chat_template = processor.tokenizer.chat_template
    _check_class(processor, model_config, name)
    _complete(processor, config, model_config, family)
    if config.min_pixels or config.max_pixels:
        _limit_pixels(processor.image_processor, config)
    if config.image_aspect == "pad":
        processor.image_processor = padding_processor(processor.image_processor)
    if family.engine == "generate":
        return processor
    _check_tokenizer(processor.tokenizer, model_config, name)
    _check_image_token(processor, model_config, name)
    _check_template(processor, name)
    _check_pixels(processor, name)
    return processor


def check_answers(engine: Engine, vocabulary: int, processor: Any, name: str) -> None:
    """Raise ``CheckpointError`` unless ``engine`` answers a question about a picture with finite logits.

    ``vocabulary`` is the number of rows of the model's embedding.
    """
    _check_ids(processor.tokenizer, vocabulary, name)
    (result,) = engine.generate([GenerateRequest((Message("user", (_picture(), "?")),), max_new_tokens=1)])
    if not isinstance(result, Failure):
        return
    if result.kind == "out_of_memory":
        raise UserError(f"{name}: no memory is left to answer about a picture; try dtype=bfloat16")
    release = "" if result.kind == "not_finite" else "; take processor, config.json and weights from the same release"
    raise CheckpointError(f"{name}: it cannot answer about a picture: {result.message}{release}")


def check_image_tokens(model: Any, processor: Any, family: Family, name: str) -> None:
    """Raise ``CheckpointError`` unless ``model`` makes of a picture as many tokens as ``processor`` reserves for it."""
    encoder, picture = ImageEncoder(model, processor, family, Counters()), _picture()
    try:
        with torch.inference_mode():
            features = encoder.encode([*encoder.shown([picture]), *encoder.shown([picture, picture])], max_batch=1)
    except torch.OutOfMemoryError:
        raise UserError(f"{name}: no memory is left to encode a picture; try dtype=bfloat16") from None
    except KeyError as error:
        raise CheckpointError(
            f"{name}: its processor does not make what the model takes of a picture: {error}; {_SAME_RELEASE}"
        ) from error
    except Exception as error:  # what does not fit provokes errors of every kind in a model
        raise CheckpointError(
            f"{name}: the model cannot encode a picture as its processor prepares it: {first_line(error)}; "
            f"the values in {_SETTINGS} (patch_size, num_additional_image_tokens, ...) must fit config.json"
        ) from error
    if not all(found.isfinite().all() for found in features.values()):
        raise CheckpointError(
            f"{name}: the vision encoder gives NaN or infinite features in {model.dtype}; try dtype=bfloat16 or "
            "dtype=float32"
        )


def padding_processor(original: Any) -> Any:
    """LLaVA-1.5's own preprocessing, pad to a square and resize, at the size of the ``original`` image processor."""
    from transformers import LlavaImageProcessor

    crop = original.crop_size if original.do_center_crop else original.size
    side = crop["height"]
    return LlavaImageProcessor(
        do_pad=True,
        do_center_crop=False,
        size={"height": side, "width": side},
        image_mean=original.image_mean,
        image_std=original.image_std,
        resample=original.resample,
    )


def _complete(processor: Any, config: EngineConfig, model_config: Any, family: Family) -> None:
    """Take from config.json what older checkpoints do not tell their processor."""
    if family.processor_values is None:
        return
    file = checkpoint_file(config.pretrained, _SETTINGS, config.revision)
    stored = read_json(file) if file is not None else {}
    for key, value in family.processor_values(model_config).items():
        if stored.get(key) is not None:
            continue
        if value is None:
            raise CheckpointError(
                f"{config.pretrained}: {_SETTINGS} has no {key}, and config.json does not tell it either; add it"
            )
        setattr(processor, key, value)


def _limit_pixels(image_processor: Any, config: EngineConfig) -> None:
    size = dict(image_processor.size)
    size["shortest_edge"] = config.min_pixels or size["shortest_edge"]
    size["longest_edge"] = config.max_pixels or size["longest_edge"]
    if size["shortest_edge"] > size["longest_edge"]:
        raise UserError(f"min_pixels={size['shortest_edge']} exceeds max_pixels={size['longest_edge']}")
    image_processor.size = size


def _check_class(processor: Any, model_config: Any, name: str) -> None:
    """Raise ``CheckpointError`` for a processor that transformers has for other models than that of config.json."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    found, expected = type(processor).__name__, PROCESSOR_MAPPING_NAMES.get(model_config.model_type)
    if expected and found != expected and {found, expected} != _ALIKE and found in PROCESSOR_MAPPING_NAMES.values():
        raise CheckpointError(
            f"{name}: its processor is a {found}, but model_type {model_config.model_type!r} takes a {expected}; "
            f"{_SAME_RELEASE}"
        )


def _check_image_token(processor: Any, model_config: Any, name: str) -> None:
    """Raise ``CheckpointError`` where processor and model take different tokens for an image's."""
    found, expected = int(processor.image_token_ids[0]), getattr(model_config, "image_token_id", None)
    if expected is not None and found != expected:
        raise CheckpointError(
            f"{name}: an image's token is {found} for its processor and {expected} in config.json; {_SAME_RELEASE}"
        )


def _check_tokenizer(tokenizer: Any, model_config: Any, name: str) -> None:
    _check_ids(tokenizer, model_config.get_text_config().vocab_size, name)


def _check_ids(tokenizer: Any, rows: int, name: str) -> None:
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if not 0 <= largest < rows:
        raise CheckpointError(
            f"{name}: the tokenizer's ids go up to {largest}, but the embedding has {rows} rows (vocab_size in "
            "config.json); take the tokenizer and the weights from the same release"
        )


def _check_template(processor: Any, name: str) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "?"}]
    try:
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template is a program
        raise CheckpointError(
            f"{name}: the chat template cannot be used: {first_line(error)}; use that of its release"
        ) from error
    if text.count(processor.image_token) != 1:
        raise CheckpointError(
            f"{name}: the chat template shows {text.count(processor.image_token)} images where a message has one; "
            "use the template of the checkpoint's release"
        )


def _check_pixels(processor: Any, name: str) -> None:
    try:
        inputs = image_inputs(processor, _picture().pixels)
    except Exception as error:  # wrong settings provoke errors of every kind
        raise CheckpointError(
            f"{name}: the processor cannot prepare a picture: {first_line(error)}; {_SAME_RELEASE}"
        ) from error
    if not all(tensor.isfinite().all() for tensor in inputs.tensors.values()):
        raise CheckpointError(
            f"{name}: the processor makes NaN or infinite pixels; check image_mean, image_std and rescale_factor in "
            "its image processor's settings"
        )


def _picture() -> Picture:
    """A small picture that is neither square nor of one colour."""
    return Picture(Image.linear_gradient("L").resize((80, 60)).convert("RGB"))
