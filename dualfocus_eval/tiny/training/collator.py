"""Samples to tensors: token ids, images, and labels on the assistant turns that are targets.

Samples are encoded once, offline and in parallel (section 3.3, "Efficient Training Implementation"); a batch then costs
only its padding, and both cores of a small machine are free for the model.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.tiny.scenes.questions import NOUNS
from dualfocus_eval.tiny.training.patch_labeller import single_token
from dualfocus_eval.tiny.training.patch_labels import resized
from dualfocus_eval.tiny.training.scene_conversations import Evidence, SceneSample
from dualfocus_eval.training.encoding import IGNORED, render

__all__ = ["ConversationCollator", "PatchCollator", "Prepared", "SampleEncoder"]


class Prepared(Dataset[dict[str, Any]]):
    """Every row of ``source`` through ``encode``, in memory, in order; one row may give several examples."""

    def __init__(self, source: Sequence[Any], encode: Callable[[Any], list[dict[str, Any]]], processes: int) -> None:
        with multiprocessing.get_context("fork").Pool(processes, _start, (source, encode)) as pool:
            rows = pool.imap(_encode_row, range(len(source)), chunksize=64)
            self.examples = [example for row in rows for example in row]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.examples[index]


_work: tuple[Sequence[Any], Callable[[Any], list[dict[str, Any]]]]


def _start(source: Sequence[Any], encode: Callable[[Any], list[dict[str, Any]]]) -> None:
    global _work
    _work = (source, encode)
    torch.set_num_threads(1)


def _encode_row(index: int) -> list[dict[str, Any]]:
    source, encode = _work
    return encode(source[index])


class SampleEncoder:
    """Encodes samples of scenes: what `render` says of any conversation, and where its answers have their evidence."""

    def __init__(self, processor: Any, side: int) -> None:
        self.processor, self.side = processor, side
        self.patches = image_inputs(processor, Image.new("RGB", (side, side))).tokens
        self.nouns = [single_token(processor.tokenizer, f" {noun}") for noun in NOUNS]
        self.line, self.stop = (single_token(processor.tokenizer, mark) for mark in "\n.")

    def __call__(self, sample: SceneSample) -> list[dict[str, Any]]:
        """One example: its tokens, what of them is trained, and where the trained ones have their evidence.

        (length,) int32: ``input_ids``; ``labels``; ``turns``, the assistant turn that a target is of; ``subjects``, the
        turn whose question names an object there; both -1 elsewhere. ``evidence`` (assistant turns, image tokens) and
        ``grounding`` (assistant turns,) bool, ``aspects`` (assistant turns,) int64, ``images`` (images, side, side, 3)
        uint8.
        """
        images = [resized(image, self.side) for image in _images(sample)]
        rendered = render(self.processor, sample.messages)
        spoken, number = rendered.spoken, rendered.turns
        answers = int(number.max()) + bool(spoken[-1])
        if answers != len(sample.turns):
            raise ValueError(f"the chat template marks {answers} answers where the sample has {len(sample.turns)}")
        trained = np.array([*(turn.trained for turn in sample.turns), False])[number]
        input_ids, turns, subjects = (
            rendered.expanded(values, [self.patches] * len(images)).astype(np.int32)
            for values in (
                rendered.ids,
                np.where(spoken & trained, number, -1),
                np.where(~spoken & np.isin(rendered.ids, self.nouns) & ~self._in_options(rendered.ids), number, -1),
            )
        )
        labels = np.where(turns >= 0, input_ids, IGNORED)
        evidence = np.stack([_patches_under(turn.evidence, len(images), self.patches) for turn in sample.turns])
        return [
            {
                "input_ids": input_ids,
                "labels": labels,
                "turns": turns,
                "subjects": subjects,
                "evidence": evidence,
                "grounding": np.array([turn.grounding for turn in sample.turns]),
                "aspects": np.array([turn.aspect for turn in sample.turns]),
                "images": np.stack(images),
            }
        ]

    def _in_options(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which tokens are of lines like "A. red": (length,)."""
        found = np.zeros(len(ids), dtype=bool)
        (lines,) = np.nonzero(ids == self.line)
        for start, end in itertools.pairwise(lines):
            found[start:end] = end > start + 2 and ids[start + 2] == self.stop
        return found


def _images(sample: SceneSample) -> list[Any]:
    return [part["image"] for message in sample.messages for part in message["content"] if part["type"] == "image"]


def _patches_under(boxes: Evidence, images: int, patches: int) -> NDArray[np.bool_]:
    """Patches of a square grid whose middle lies in one of ``boxes``, or that hold a box's: (images * patches,)."""
    grid = math.isqrt(patches)
    centres = (np.arange(grid) + 0.5) / grid
    under = np.zeros((images, grid, grid), dtype=bool)
    for number, box in boxes:
        under[number] |= np.outer((centres > box.y1) & (centres < box.y2), (centres > box.x1) & (centres < box.x2))
        row, column = (
            min(int((low + high) / 2 * grid), grid - 1) for low, high in ((box.y1, box.y2), (box.x1, box.x2))
        )
        under[number, row, column] = True
    return under.reshape(-1)


class ConversationCollator:
    """Pads encoded samples on the right and puts their images through the checkpoint's own image processor."""

    def __init__(self, processor: Any) -> None:
        self.image_processor, self.padding = processor.image_processor, processor.tokenizer.pad_token_id
        self.image_token, self.end = processor.image_token_id, processor.tokenizer.eos_token_id

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Tensors of a batch.

        ``input_ids``, ``attention_mask``, ``labels`` (batch, length); ``pixel_values`` (images, 3, side, side);
        ``evidence`` (batch, length, length) bool: where the token that comes after position i is to be seen;
        ``subjects``, likewise: where its question names what it is about;
        ``order`` (batch, length): how many tokens of the same answer come before that token; and likewise ``weight``,
        one over the number of its answer's tokens, 0 where there is no target; ``grounding``, whether it is of a box;
        ``aspect``, what of its evidence it is about, or -1. An answer's end has neither evidence nor subject.
        """
        ids = [torch.from_numpy(sample["input_ids"]).long() for sample in samples]
        labels = [torch.from_numpy(sample["labels"]).long() for sample in samples]
        images = [image for sample in samples for image in sample["images"]]
        length = max(map(len, ids))
        evidence = torch.zeros(len(ids), length, length, dtype=torch.bool)
        subjects = torch.zeros_like(evidence)
        order = torch.zeros(len(ids), length, dtype=torch.long)
        weight = torch.zeros(len(ids), length)
        grounding = torch.zeros(len(ids), length, dtype=torch.bool)
        aspect = torch.full((len(ids), length), -1)
        for row, sample in enumerate(samples):
            (targets,) = np.nonzero(sample["turns"] >= 0)
            (patches,) = np.nonzero(sample["input_ids"] == self.image_token)
            turns = sample["turns"][targets]
            guided = (sample["input_ids"][targets] != self.end)[:, None]
            # Position i holds the token before the target: that is where the target is predicted.
            asked = torch.from_numpy(targets - 1)
            seen = guided & sample["evidence"][turns] & (patches < targets[:, None])
            evidence[row, asked[:, None], torch.from_numpy(patches)] = torch.from_numpy(seen)
            named = guided & (sample["subjects"] == turns[:, None])
            subjects[row, asked, : len(ids[row])] = torch.from_numpy(named)
            order[row, asked] = torch.from_numpy(np.arange(len(targets)) - np.searchsorted(turns, turns))
            weight[row, asked] = torch.from_numpy(1 / np.bincount(turns)[turns]).float()
            grounding[row, asked] = torch.from_numpy(sample["grounding"][turns])
            aspect[row, asked] = torch.from_numpy(sample["aspects"][turns])
        return {
            "evidence": evidence,
            "subjects": subjects,
            "order": order,
            "weight": weight,
            "grounding": grounding,
            "aspect": aspect,
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.padding),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
            "pixel_values": self.image_processor(images, return_tensors="pt")["pixel_values"],
        }


class PatchCollator:
    """Images through the checkpoint's own image processor, with their patch labels."""

    def __init__(self, processor: Any) -> None:
        self.image_processor = processor.image_processor

    def __call__(self, frames: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """``pixel_values`` (batch, 3, side, side) and ``labels`` (batch, patches, slots)."""
        pixels = self.image_processor([frame["image"] for frame in frames], return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "labels": torch.from_numpy(np.stack([frame["labels"] for frame in frames]))}
