"""Reading one layer's attention from the prompt's last token, in the engine's ordinary forward passes.

The whole model stays on its own attention kernel. In the layer that is read, the queries and keys which the kernel gets
are looked at on the way: of one query per prompt the weights are computed again. They take (rows, heads, tokens)
numbers, whatever the number of layers and of the tokens that the pass computes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dualfocus_eval.engines.attention import ImageAttention, readable_families
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.engines.batch_rows import BatchRow
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.prefill import Prefiller

__all__ = ["AttentionReader"]

_KERNEL = "dualfocus_reading"
_DEPTH = (14, 32)
"""LLaVA-1.5's best layer and how many it has."""


@dataclass(eq=False)
class AttentionReader:
    """Reads the attention of one checkpoint."""

    checkpoint: Checkpoint
    prefiller: Prefiller

    @cached_property
    def _layers(self) -> list[Any | None]:
        """The attention module of every decoder layer; None for one that keeps a recurrent state instead."""
        decoder = self.checkpoint.model.get_submodule(self.checkpoint.family.language_model)
        return [getattr(layer, "self_attn", None) for layer in decoder.layers]

    def problem(self, layer: int | None) -> str | None:
        """See `AttendingEngine.attention_problem`."""
        family, name = self.checkpoint.family, self.checkpoint.name
        if family.grid is None:
            return (
                f"where an image's tokens lie in it is not known for model_type {family.model_type!r}, only for: "
                f"{readable_families()}; choose another grounding method"
            )
        attending = [number for number, module in enumerate(self._layers) if module is not None]
        if layer is None or layer in attending:
            return None
        last = len(self._layers) - 1
        if layer > last:
            return f"attention_layer={layer}: the layers of {name} have the numbers 0 to {last}"
        return (
            f"attention_layer={layer} keeps a recurrent state and attends to nothing; choose one of: "
            f"{', '.join(map(str, attending))}"
        )

    def read(
        self, rows: Sequence[BatchRow], layer: int | None, max_rows: int
    ) -> list[tuple[int, ImageAttention | Failure]]:
        """The attention of each of ``rows``, by its index; at most ``max_rows`` of them in one pass."""
        results: list[tuple[int, ImageAttention | Failure]] = []
        with _reading(self._module(layer)) as passes:
            for batch in self.prefiller.prefill(rows, max_rows):
                # Passes over shared beginnings came before that of the batch, which may be in parts.
                weights = torch.cat(_last(passes, len(batch.rows))).cpu()  # (rows, slots)
                passes.clear()
                results += [
                    (row.index, self._of_picture(row, weights[number][batch.buffer.mask[number]]))
                    for number, row in enumerate(batch.rows)
                ]
        return results

    def _module(self, layer: int | None) -> Any:
        if layer is not None:
            return self._layers[layer]
        first = len(self._layers) * _DEPTH[0] // _DEPTH[1]
        return next(module for module in self._layers[first:] + self._layers[:first] if module is not None)

    def _of_picture(self, row: BatchRow, weights: torch.Tensor) -> ImageAttention | Failure:
        """The part of a prompt's weights, (tokens,), that the cells of its picture have."""
        prompt, encoder, find_grid = row.prompt, self.prefiller.encoder, self.checkpoint.family.grid
        if len(prompt.pictures) != 1 or find_grid is None:
            return Failure(
                "no_grid", "attention is read to the cells of one picture; the conversation has none or more"
            )
        (picture,), ((first, last),) = prompt.pictures, prompt.spans
        grid = find_grid(encoder.preprocess(picture), encoder.processor, picture.picture.pixels.size)
        shown = weights[first:last][torch.tensor(row.ids[first:last]) == prompt.image_token]
        cells = shown[grid.first : grid.first + grid.rows * grid.columns]
        if len(cells) < grid.rows * grid.columns:
            message = f"{len(shown)} image tokens for a grid of {grid.rows} by {grid.columns} cells"
            return Failure("no_grid", message)
        if not weights.isfinite().all():
            return self.prefiller.not_finite(row)
        return ImageAttention(cells.view(grid.rows, grid.columns).numpy(), grid)


@contextmanager
def _reading(attention: Any) -> Iterator[list[torch.Tensor]]:
    """Collects what `_last_weights` gives of each pass through one layer's ``attention`` module."""
    config, passes = attention.config, []
    eager = getattr(sys.modules[type(attention).__module__], "eager_attention_forward", None)
    kernel = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager)

    def read(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
    ) -> Any:
        passes.append(_last_weights(query, key, mask, options.get("scaling")))
        return kernel(module, query, key, value, mask, **options)

    ALL_ATTENTION_FUNCTIONS[_KERNEL] = read
    attention.config = copy.copy(config)
    attention.config._attn_implementation = _KERNEL
    try:
        yield passes
    finally:
        attention.config = config
        del ALL_ATTENTION_FUNCTIONS[_KERNEL]


def _last_weights(query: torch.Tensor, key: torch.Tensor, mask: Any, scaling: float | None) -> torch.Tensor:
    """The latest query's weights of all keys, (rows, slots), averaged over the heads.

    ``query`` is (rows, heads, length, size), ``key`` (rows, key heads, slots, size). ``mask`` is what the kernel gets:
    True, or 0 to be added, where a query attends to a slot; of the slots alone, (rows, slots), or also of the queries.
    """
    rows, heads, _, size = query.shape
    latest = query[:, :, -1].view(rows, key.shape[1], heads // key.shape[1], size)
    scores = latest @ key.transpose(2, 3) * (scaling or size**-0.5)  # (rows, key heads, heads of each, slots)
    if mask is not None:
        allowed = mask[:, None, None] if mask.dim() == 2 else mask[:, :, -1:]  # (rows, 1, 1, slots)
        additive = allowed.is_floating_point()
        scores = scores + allowed if additive else scores.masked_fill(~allowed.bool(), -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32).mean(dim=(1, 2))


def _last(passes: Sequence[torch.Tensor], rows: int) -> list[torch.Tensor]:
    """The latest of ``passes``, in order, that have ``rows`` rows together."""
    found: list[torch.Tensor] = []
    for part in reversed(passes):
        if sum(map(len, found)) == rows:
            break
        found.insert(0, part)
    return found
