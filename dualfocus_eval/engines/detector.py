"""Zero-shot object detectors of transformers: boxes of what a text names."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor

from dualfocus_eval.common.errors import CheckpointError, UserError, first_line
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.checkpoint_files import is_finite, refuse_missing_folder
from dualfocus_eval.engines.identity import checkpoint_digest

__all__ = ["MODEL_TYPES", "Detector", "load_detector"]

MODEL_TYPES = ("grounding-dino", "mm-grounding-dino", "owlv2", "owlvit")
"""Detectors with one processor and one post-processing interface."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A loaded detector, in float32. It sees one image at a time, so that no box depends on another image."""

    model: Any
    processor: Any
    digest: str
    """`identity.checkpoint_digest` of its files."""

    def move(self, device: str | None) -> None:
        """To ``device``; None for whatever this machine has."""
        self.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @torch.inference_mode()
    def boxes(self, image: Image.Image, phrases: Sequence[str]) -> list[Box]:
        """Where ``image`` shows what any of ``phrases`` names, by the detector's own default threshold of confidence.

        Raises ArithmeticError where its numbers are not finite.
        """
        longest = (
            getattr(self.model.config, "max_text_len", None) or self.model.config.text_config.max_position_embeddings
        )
        inputs = self.processor(
            images=[image], text=[list(phrases)], return_tensors="pt", truncation=True, max_length=longest
        ).to(self.model.device)
        outputs = self.model(**inputs)
        # Where a text is shorter than the longest, the logits of its padding are minus infinity.
        if not is_finite(outputs.pred_boxes) or outputs.logits.isnan().any():
            raise ArithmeticError("the detector's boxes or logits are NaN or infinite")
        width, height = image.size
        (found,) = self.processor.post_process_grounded_object_detection(outputs, target_sizes=[(height, width)])
        clipped = [
            Box(x1 / width, y1 / height, x2 / width, y2 / height).clipped()
            for x1, y1, x2, y2 in found["boxes"].tolist()
        ]
        return [box for box in clipped if box.area > 0]


@functools.cache  # a sweep compares several, batch by batch
def load_detector(place: str) -> Detector:
    """The detector in the folder, or of the hub id ``place``; loaded once. Raises ``UserError`` where it is none."""
    try:
        refuse_missing_folder(place)
        config = AutoConfig.from_pretrained(place)
    except CheckpointError as error:
        raise UserError(f"detector={error}") from None
    except Exception as error:  # wrong types and values provoke errors of every kind
        raise UserError(
            f"detector={place}: no usable config.json: {first_line(error)}; give a folder or a hub id"
        ) from error
    if config.model_type not in MODEL_TYPES:
        raise UserError(
            f"detector={place}: model_type {config.model_type!r} is no supported detector; supported are "
            f"{', '.join(MODEL_TYPES)}"
        )
    try:
        processor = AutoProcessor.from_pretrained(place)
        model, info = AutoModelForZeroShotObjectDetection.from_pretrained(
            place, dtype=torch.float32, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:
        raise UserError(f"detector={place}: cannot be built and loaded: {first_line(error)}") from error
    _refuse_partial(info, place)
    return Detector(model.eval(), processor, checkpoint_digest(place))


def _refuse_partial(info: dict[str, Any], place: str) -> None:
    """Weights that are missing or of another shape would be random."""
    lost = sorted([*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])])
    if lost:
        raise UserError(
            f"detector={place}: {len(lost)} of the architecture's weights are missing or of another shape, {lost[0]} "
            "first; take config.json and weights from the same release"
        )
