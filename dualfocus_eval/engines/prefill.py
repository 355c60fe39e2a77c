"""Prefilling: which prompt beginnings are computed, reused and kept, and the forward passes that do it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from dualfocus_eval.engines.base import Counters, Failure
from dualfocus_eval.engines.choosing import not_finite
from dualfocus_eval.engines.image_inputs import ImageEncoder
from dualfocus_eval.engines.kv_buffer import KeyValueBuffer
from dualfocus_eval.engines.masks import AttentionMasks
from dualfocus_eval.engines.prefix_cache import PrefixCache, Segment
from dualfocus_eval.engines.rendering import Boundary, Prompt
from dualfocus_eval.families import Forward

__all__ = ["BatchRow", "Prefilled", "Prefiller"]

T = TypeVar("T")

MAX_PADDING = 1.25
"""Slots per token that a padded batch may take before it is split."""


@dataclass(eq=False)
class BatchRow:
    """A prompt on its way through the model, with the continuation that it is to be scored on, if any."""

    index: int
    """Position of its request in the caller's list."""
    prompt: Prompt
    continuation: tuple[int, ...] = ()
    base: Segment | None = None
    """The longest reusable beginning; later the last segment cut from the row's own states."""
    shares_prompt: bool = False
    """Whether another row has the same prompt, as two continuations that are compared have."""

    @property
    def ids(self) -> tuple[int, ...]:
        # The last token of a continuation predicts nothing that is asked for.
        return self.prompt.ids + self.continuation[:-1]

    def positions(self) -> torch.Tensor:
        """Position ids of ``ids``, (axes, length)."""
        extra = torch.arange(len(self.continuation[:-1])) + self.prompt.next_position
        return torch.cat([self.prompt.positions, extra.expand(len(self.prompt.positions), -1)], dim=1)

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """The prompt's, and where several rows have it in common its own end but for the last token."""
        if not self.shares_prompt:
            return self.prompt.boundaries
        return (*self.prompt.boundaries, self.prompt.last_boundary)

    def missing(self) -> list[Boundary]:
        """The places after ``base`` where the prompt's states may be cut for reuse."""
        done = self.base.end if self.base else 0
        return [b for b in self.boundaries if b.stored and b.end > done]


@dataclass(eq=False)
class Prefilled:
    """Rows whose prompts are in ``buffer``, and the logits at their last tokens, (rows, kept tokens, vocabulary)."""

    rows: list[BatchRow]
    buffer: KeyValueBuffer
    logits: torch.Tensor


def similar_lengths(items: Iterable[T], length: Callable[[T], int], most: int) -> list[list[T]]:
    """Groups of at most ``most`` items whose lengths differ little enough to be padded to one length."""
    groups: list[list[T]] = []
    tokens = 0
    for item in sorted(items, key=length):
        size = length(item)
        if groups and len(groups[-1]) < most and size * (len(groups[-1]) + 1) <= MAX_PADDING * (tokens + size):
            groups[-1].append(item)
            tokens += size
        else:
            groups.append([item])
            tokens = size
    return groups


@dataclass(eq=False)
class Prefiller:
    """Computes key/value states for one model. Without ``reuse`` every row is computed from its first token."""

    model: Any
    encoder: ImageEncoder
    cache: PrefixCache
    counters: Counters
    layers: int
    masks: AttentionMasks | None
    reuse: bool
    held: dict[str, Segment] = field(default_factory=dict)
    """Segments of the chunk in progress; they serve its rows even when the cache has no room for them."""

    def prefill(self, rows: Sequence[BatchRow], max_rows: int) -> Iterable[Prefilled]:
        """Bring ``rows`` through the model in batches of at most ``max_rows``, each shared beginning computed once.

        A row's last ``max(1, len(continuation))`` logits are kept. The tokens that were not computed count as reused.
        """
        computed = self.counters.tokens_prefilled
        self.held = {}
        if self.reuse:
            for row in rows:
                row.base = self._longest_known(row)
            while jobs := self._shared_beginnings(rows) or self._outliers(rows):
                for batch in similar_lengths(jobs, lambda job: job[1].end - _done(job[0]), max_rows):
                    self._compute([row for row, _ in batch], [boundary.end for _, boundary in batch], keep=1)
                for row in rows:
                    row.base = self._longest_known(row)
        batches = similar_lengths(rows, lambda row: len(row.ids) - _done(row), max_rows)
        for group in batches:
            keep = max(1, *(len(row.continuation) for row in group))
            ends = [len(row.ids) for row in group]
            buffer, logits = self._compute(group, ends, keep)
            yield Prefilled(group, buffer, logits)
        self.counters.tokens_reused += sum(len(row.ids) for row in rows) - (self.counters.tokens_prefilled - computed)
        self.held = {}

    def keep_turn(self, row: BatchRow, key: str, end: int, states: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Keep the states from the row's last segment to ``end``, computed while its answer was generated."""
        self._keep(Segment(key, row.base, end, states))

    def not_finite(self, row: BatchRow) -> Failure:
        """The failure of a row whose logits are NaN or infinite, with where they became so and what to try."""
        kept = (self.encoder.features.get(picture.key) for picture in row.prompt.pictures)
        blind = any(features is not None and not features.isfinite().all() for features in kept)
        return not_finite("the vision encoder's features" if blind else "the model's logits", self.model.dtype)

    def _longest_known(self, row: BatchRow) -> Segment | None:
        for boundary in reversed(row.boundaries):
            if row.base is not None and boundary.end <= row.base.end:
                break
            segment = self.held.get(boundary.key) or self.cache.get(boundary.key)
            if segment is not None:
                for part in segment.chain():
                    self.held[part.key] = part
                return segment
        return row.base

    def _shared_beginnings(self, rows: Sequence[BatchRow]) -> list[tuple[BatchRow, Boundary]]:
        """One row for each missing beginning that several rows have in common."""
        counts = Counter(boundary.key for row in rows for boundary in row.missing())
        jobs: dict[str, tuple[BatchRow, Boundary]] = {}
        for row in rows:
            shared = [b for b in row.missing() if counts[b.key] > 1]
            if shared:
                # As far as the same rows go together; where some of them part, the next round goes on.
                together = [b for b in shared if counts[b.key] == counts[shared[0].key]]
                jobs[together[-1].key] = (row, together[-1])
        return list(jobs.values())

    def _outliers(self, rows: Sequence[BatchRow]) -> list[tuple[BatchRow, Boundary]]:
        """Rows so much longer than the others that padding to them would cost more than a pass of their own."""
        sizes = [len(row.ids) - _done(row) for row in rows]
        if max(sizes) * len(sizes) <= MAX_PADDING * sum(sizes):
            return []
        mean = sum(sizes) / len(sizes)
        return [
            (row, row.missing()[-1]) for row, size in zip(rows, sizes, strict=True) if size > mean and row.missing()
        ]

    def _compute(self, rows: list[BatchRow], ends: list[int], keep: int) -> tuple[KeyValueBuffer, torch.Tensor]:
        """One forward pass over every row's ids from its base to its end; keeps what may be reused."""
        starts = [_done(row) for row in rows]
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        tokens = self._tokens(rows, starts, ends)
        begin = time.perf_counter()
        buffer = KeyValueBuffer(self.layers, [row.base for row in rows], lengths)
        logits = self.forward(buffer, keep, *tokens)
        for number, (row, end) in enumerate(zip(rows, ends, strict=True)):
            if self.reuse:
                self._cut(row, number, end, lengths[number], buffer)
        self.counters.tokens_prefilled += sum(lengths)
        seconds = self.counters.seconds
        seconds["prefill"] = seconds.get("prefill", 0.0) + time.perf_counter() - begin
        return buffer, logits

    def _cut(self, row: BatchRow, number: int, end: int, length: int, buffer: KeyValueBuffer) -> None:
        # Slot of token 0 of the row, counted as if its suffix were contiguous with what lies before.
        origin = buffer.prefix_slots + buffer.suffix_slots - end
        for boundary in row.missing():
            if boundary.end > end:
                break
            known = self.held.get(boundary.key) or self.cache.get(boundary.key)
            if known is None:
                states = buffer.slice(number, origin + _done(row), origin + boundary.end)
                known = Segment(boundary.key, row.base, boundary.end, states)
            row.base = known
            self._keep(known)

    def _keep(self, segment: Segment) -> None:
        self.held[segment.key] = segment
        with self.cache.pinned(list(self.held.values())):
            self.cache.put(segment)

    def _tokens(
        self, rows: Sequence[BatchRow], starts: Sequence[int], ends: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Ids, embeddings, positions and deep features of the rows' tokens, right-aligned; see `Forward`."""
        width = max(end - start for start, end in zip(starts, ends, strict=True))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        positions = torch.zeros(len(rows[0].prompt.positions), len(rows), width, dtype=torch.long)
        needed = []
        for number, (row, start, end) in enumerate(zip(rows, starts, ends, strict=True)):
            ids[number, width - (end - start) :] = torch.tensor(row.ids[start:end])
            positions[:, number, width - (end - start) :] = row.positions()[:, start:end]
            for picture, (first, last) in zip(row.prompt.pictures, row.prompt.spans, strict=True):
                if first >= start and last <= end:
                    places = torch.arange(first, last)[torch.tensor(row.ids[first:last]) == row.prompt.image_token]
                    needed.append((number, picture, places + width - end))
        embeds = self.model.get_input_embeddings()(ids.to(self.model.device))
        features = self.encoder.encode([picture for _, picture, _ in needed], max_batch=max(1, len(rows)))
        deep = None
        hidden = embeds.shape[-1]
        for number, picture, places in needed:
            found, where = features[picture.key].to(embeds.device, embeds.dtype), places.to(embeds.device)
            embeds[number, where] = found[:, :hidden]
            if found.shape[-1] > hidden:
                if deep is None:
                    deep = embeds.new_zeros(len(rows), width, found.shape[-1] - hidden)
                deep[number, where] = found[:, hidden:]
        return ids.to(embeds.device), embeds, positions.to(embeds.device), deep

    def forward(
        self,
        buffer: KeyValueBuffer,
        keep: int,
        ids: torch.Tensor,
        embeds: torch.Tensor,
        positions: torch.Tensor,
        deep: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Append tokens to ``buffer``, whose mask covers them already; float32 logits at the last ``keep`` of them."""
        mask = buffer.mask.to(embeds.device)
        if self.masks is not None:
            mask = self.masks.build(mask, ids == self.encoder.image_token, embeds.dtype)
        step = Forward(ids, embeds, positions, mask, buffer, keep, deep)
        hook = self.encoder.family.forward
        logits = self.model(**step.arguments()).logits if hook is None else hook(self.model, step)
        # `generate` chooses tokens in float32 whatever the model's dtype; so does this engine.
        return logits.to(torch.float32)  # (rows, keep, vocabulary)


def _done(row: BatchRow) -> int:
    return row.base.end if row.base else 0
