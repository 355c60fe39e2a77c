"""Samples to tensors: token ids, images, and labels on the assistant turns that are targets.

Samples are encoded once, offline and in parallel (section 3.3, "Efficient Training Implementation"); a batch then costs
only its padding, and both cores of a small machine are free for the model.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from dualfocus_eval.train.conversations import Sample
from dualfocus_eval.train.patch_labels import IGNORED, resized

__all__ = ["IGNORED", "ConversationCollator", "PatchCollator", "Prepared", "SampleEncoder"]


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
    """Renders samples with the checkpoint's own chat template; its generation markers say what the assistant says."""

    def __init__(self, processor: Any, side: int) -> None:
        self.processor, self.side = processor, side

    def __call__(self, sample: Sample) -> list[dict[str, Any]]:
        """``input_ids`` and ``labels`` (length,) int32 and ``images`` (images, side, side, 3) uint8."""
        messages = list(sample.messages)
        images = [resized(image, self.side) for image in _images(sample)]
        # The processor can return this mask too, but walks over every character offset of every image token for it.
        short = self.processor.tokenizer.apply_chat_template(
            messages, chat_template=self.processor.chat_template, return_dict=True, return_assistant_tokens_mask=True
        )
        rendered = self.processor.apply_chat_template(messages, tokenize=False)
        input_ids = np.array(self.processor(text=rendered, images=images or None)["input_ids"][0], dtype=np.int32)
        image_token = self.processor.image_token_id
        targets = _targets(np.array(short["assistant_masks"], dtype=bool), sample.targets)
        labels = np.full_like(input_ids, IGNORED)
        text = input_ids != image_token
        labels[text] = np.where(targets[np.array(short["input_ids"]) != image_token], input_ids[text], IGNORED)
        return [{"input_ids": input_ids, "labels": labels, "images": np.stack(images)}]


def _images(sample: Sample) -> list[Any]:
    return [part["image"] for message in sample.messages for part in message["content"] if part["type"] == "image"]


def _targets(spoken: np.ndarray[Any, Any], trained: Sequence[bool]) -> np.ndarray[Any, Any]:
    """Of the runs of spoken tokens, one per assistant turn, those that are trained: bool (length,)."""
    starts = spoken & ~np.concatenate([[False], spoken[:-1]])
    if int(starts.sum()) != len(trained):
        raise ValueError(
            f"the chat template marks {int(starts.sum())} assistant turns where the sample has {len(trained)}"
        )
    turn = starts.cumsum() - 1
    chosen: np.ndarray[Any, Any] = spoken & np.array(trained)[turn.clip(min=0)]
    return chosen


class ConversationCollator:
    """Pads encoded samples on the right and puts their images through the checkpoint's own image processor."""

    def __init__(self, processor: Any) -> None:
        self.image_processor, self.padding = processor.image_processor, processor.tokenizer.pad_token_id

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask``, ``labels`` (batch, length); ``pixel_values`` (images, 3, side, side)."""
        ids = [torch.from_numpy(sample["input_ids"]).long() for sample in samples]
        labels = [torch.from_numpy(sample["labels"]).long() for sample in samples]
        images = [image for sample in samples for image in sample["images"]]
        return {
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
