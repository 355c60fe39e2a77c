"""From the epoch's order to batches: images are read and prepared here, in the data loader's processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.families import ImageInputs
from dualfocus_eval.families.base import concatenate
from dualfocus_eval.method.images import prepare_picture
from dualfocus_eval.training.encoding import IGNORED, Encoded, encode
from dualfocus_eval.training.mixture import FILLER
from dualfocus_eval.training.records import Record, Turn
from dualfocus_eval.training.samples import Samples

__all__ = ["REJECTED", "EpochSamples", "Example", "InstructionCollator"]

REJECTED = "rejected"
"""What a batch holds beside the model's inputs, labels and ``grounding``: samples that turned out unusable."""


@dataclass(frozen=True, eq=False)
class Example:
    """One sample with its images' tensors."""

    encoded: Encoded
    images: tuple[ImageInputs, ...]


class EpochSamples(Dataset[Example | Rejected | None]):
    """The samples of an epoch in its order; None where the last batch is filled up."""

    def __init__(
        self, sources: Sequence[Samples], chosen: Sequence[tuple[int, int]], order: Sequence[int], processor: Any
    ) -> None:
        self.sources, self.chosen, self.order, self.processor = sources, chosen, order, processor

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Example | Rejected | None:
        if self.order[index] == FILLER:
            return None
        source, row = self.chosen[self.order[index]]
        samples = self.sources[source]
        record = samples[row]
        images: list[ImageInputs] = []
        for path in samples.files.paths(record):
            picture = prepare_picture(path)
            if isinstance(picture, Failure):
                return Rejected(record.place, picture.message)
            images.append(image_inputs(self.processor, picture.pixels))
        return Example(encode(self.processor, record, [image.tokens for image in images]), tuple(images))


class InstructionCollator:
    """Pads samples on the right. Every batch has an image, so that all processes run the same parts of the model."""

    def __init__(self, processor: Any) -> None:
        self.padding = processor.tokenizer.pad_token_id
        if self.padding is None:
            self.padding = processor.tokenizer.eos_token_id
        self.image_token = int(processor.image_token_id)
        self.kinds = "mm_token_type_ids" in processor(text="a")
        self.blank = _blank(processor)

    def __call__(self, samples: Sequence[Example | Rejected | None]) -> dict[str, Any]:
        """``input_ids``, ``attention_mask``, ``labels``, ``grounding`` (batch, length), the model's image arguments
        (first dimension: images, or their patches), and the samples that are `REJECTED`.

        A batch without images, or without samples, gets a blank image without targets.
        """
        examples = [sample for sample in samples if isinstance(sample, Example)]
        if not any(example.images for example in examples):
            examples.append(self.blank)
        rows = [example.encoded for example in examples]
        ids = self._padded([row.input_ids for row in rows], self.padding)
        batch = {
            "input_ids": ids,
            "attention_mask": self._padded([row.input_ids >= 0 for row in rows], False).long(),
            "labels": self._padded([row.labels for row in rows], IGNORED),
            "grounding": self._padded([row.grounding for row in rows], False),
            **concatenate([image for example in examples for image in example.images]),
            REJECTED: [sample for sample in samples if isinstance(sample, Rejected)],
        }
        if self.kinds:
            batch["mm_token_type_ids"] = (ids == self.image_token).int()
        return batch

    def _padded(self, rows: Sequence[Any], value: float) -> Tensor:
        return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=value)


def _blank(processor: Any) -> Example:
    image = image_inputs(processor, Image.new("RGB", (64, 64)))
    encoded = encode(
        processor, Record("", ("",), None, (Turn("user", (None, "a")), Turn("assistant", ("a",)))), [image.tokens]
    )
    untrained = Encoded(encoded.input_ids, encoded.labels * 0 + IGNORED, encoded.grounding & False)
    return Example(untrained, (image,))
