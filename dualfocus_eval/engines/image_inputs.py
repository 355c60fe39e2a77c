"""Pictures on their way into the model: preprocessed one by one, encoded once, features kept by content."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from PIL import Image

from dualfocus_eval.engines.base import Counters, Picture
from dualfocus_eval.families import Family, ImageInputs

__all__ = ["ByteLRU", "ImageEncoder", "ShownPicture", "image_inputs"]

T = TypeVar("T")


class ByteLRU(Generic[T]):
    """A mapping with a byte budget that forgets what was used least recently."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, key: str) -> T | None:
        """The entry of ``key``, which becomes the most recent, or None."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: str, value: T, size: int) -> None:
        """Keep ``value`` of ``size`` bytes; one that exceeds the whole budget is not kept."""
        if key in self._entries or size > self.budget:
            return
        self._entries[key] = (value, size)
        self.used += size
        while self.used > self.budget:
            _, (_, freed) = self._entries.popitem(last=False)
            self.used -= freed

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.used = 0


def image_inputs(processor: Any, pixels: Image.Image, several: bool = False) -> ImageInputs:
    """One image as ``processor`` prepares it, alone in its conversation, or as one of ``several``.

    Raises ValueError where it reserves no token.
    """
    # One of several: it stands twice in the conversation, and of what comes in pairs the first is taken.
    images = [pixels, pixels] if several else [pixels]
    batch = processor(
        text=processor.image_token * len(images),
        images=[images],
        return_tensors="pt",
        return_text_replacement_offsets=True,
    )
    ((replaced, *_),) = batch["text_replacement_offsets"]
    tensors = {name: value[: len(value) // len(images) or 1] for name, value in batch.items() if name not in _TEXT_KEYS}
    return ImageInputs(tensors, *_expansion(processor, replaced["replacement"]))


_TEXT_KEYS = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "text_replacement_offsets"}


def _expansion(processor: Any, text: str) -> tuple[tuple[int, ...], int, str, str]:
    """What the processor puts in the place of an image: ids, the image token among them, and the text on both sides.

    From the first added token to the last nothing depends on the text around them; what lies outside may be joined
    with it in one token. Gemma's tokenizers have added tokens for line breaks in a row too, which may be joined.
    """
    tokenizer = processor.tokenizer
    token_id = int(processor.image_token_ids[0])
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    added = tokenizer.added_tokens_decoder
    special = [number for number, token in enumerate(ids) if token in added and added[token].content.strip()]
    if token_id not in ids:
        raise ValueError("the processor reserves no token for a picture; check its image_token")
    first, last = special[0], special[-1]
    return tuple(ids[first : last + 1]), token_id, text[: offsets[first][0]], text[offsets[last][1] :]


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True)
class ShownPicture:
    """A picture as a conversation shows it to the model."""

    picture: Picture
    several: bool = False
    """Whether it is prepared as one of several; only for families that make a difference."""
    as_patch: bool = False
    """Whether it is one more local patch of the picture before it, and stands where that one stands."""

    @property
    def key(self) -> str:
        """Stands for its pixels and the way in which they are prepared."""
        return self.picture.digest + ", several" * self.several + ", patch" * self.as_patch


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """Preprocesses and encodes pictures; one that was seen before costs nothing while its features are kept."""

    model: Any
    processor: Any
    family: Family
    counters: Counters
    inputs: ByteLRU[ImageInputs] = field(default_factory=lambda: ByteLRU(512 << 20))
    features: ByteLRU[torch.Tensor] = field(default_factory=lambda: ByteLRU(256 << 20))

    @cached_property
    def placeholder(self) -> int:
        """The token that the chat template writes for an image."""
        return int(self.processor.tokenizer.convert_tokens_to_ids(self.processor.image_token))

    @cached_property
    def image_token(self) -> int:
        """The token in whose places an image's features come."""
        return int(self.processor.image_token_ids[0])

    def shown(self, pictures: Sequence[Picture]) -> tuple[ShownPicture, ...]:
        """All ``pictures`` of one conversation, and after each the local patch that it has in addition."""
        several = self.family.tiles_by_count and len(pictures) > 1
        shown: list[ShownPicture] = []
        for picture in pictures:
            if picture.patch is None:
                shown.append(ShownPicture(picture, several))
            else:
                shown += [ShownPicture(Picture(picture.pixels), several), ShownPicture(picture.patch, as_patch=True)]
        return tuple(shown)

    def preprocess(self, shown: ShownPicture) -> ImageInputs:
        """The picture as the checkpoint's own processor prepares it, with no other in its batch.

        Raises ValueError for a local patch of a family that has none.
        """
        known = self.inputs.get(shown.key)
        if known is not None:
            return known
        inputs = image_inputs(self.processor, shown.picture.pixels, shown.several)
        if shown.as_patch:
            if self.family.local_patch is None:
                raise ValueError(f"model_type {self.family.model_type!r} has no local patches")
            inputs = self.family.local_patch(inputs, self.processor)
        self.inputs.put(shown.key, inputs, _bytes(list(inputs.tensors.values())))
        return inputs

    def encode(self, pictures: Sequence[ShownPicture], max_batch: int) -> dict[str, torch.Tensor]:
        """Features, (tokens, hidden) each, by key; at most ``max_batch`` pictures go through the encoder at once."""
        distinct = {picture.key: picture for picture in pictures}
        result: dict[str, torch.Tensor] = {}
        missing: list[ShownPicture] = []
        for key, picture in distinct.items():
            known = self.features.get(key)
            if known is None:
                missing.append(picture)
            else:
                result[key] = known
        start = time.perf_counter()
        for first in range(0, len(missing), max_batch):
            batch = missing[first : first + max_batch]
            inputs = [self._on_device(self.preprocess(picture)) for picture in batch]
            encoded = self.family.encode(self.model, inputs)
            for picture, item, features in zip(batch, inputs, encoded, strict=True):
                if features.shape[0] != item.tokens:
                    raise RuntimeError(
                        f"the processor reserves {item.tokens} tokens for a picture that the model encodes into "
                        f"{features.shape[0]}: the checkpoint's processor and model do not belong together"
                    )
                kept = features.clone()  # a view would keep the whole batch alive
                result[picture.key] = kept
                self.features.put(picture.key, kept, _bytes([kept]))
            self.counters.images_encoded += len(batch)
        if missing:
            seconds = self.counters.seconds
            seconds["vision"] = seconds.get("vision", 0.0) + time.perf_counter() - start
        return result

    def _on_device(self, inputs: ImageInputs) -> ImageInputs:
        device, dtype = self.model.device, self.model.dtype
        moved = {
            name: tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
            for name, tensor in inputs.tensors.items()
        }
        return replace(inputs, tensors=moved)
