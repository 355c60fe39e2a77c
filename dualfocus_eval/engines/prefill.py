"""Prefilling: which prompt beginnings are computed, reused and kept, and the forward passes that do it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dualfocus_eval.engines.base import Counters, Failure
from dualfocus_eval.engines.batch_rows import MAX_PADDING, BatchRow, similar_lengths
from dualfocus_eval.engines.choosing import not_finite
from dualfocus_eval.engines.image_inputs import ImageEncoder
from dualfocus_eval.engines.kv_buffer import BufferPart, KeyValueBuffer
from dualfocus_eval.engines.masks import AttentionMasks
from dualfocus_eval.engines.prefix_cache import PrefixCache, Segment, States
from dualfocus_eval.engines.rendering import Boundary
from dualfocus_eval.families import Forward

__all__ = ["Prefilled", "Prefiller"]


@dataclass(eq=False)
class Prefilled:
    """Rows whose prompts are in ``buffer``, and the logits at their last tokens, (rows, kept tokens, vocabulary)."""

    rows: list[BatchRow]
    buffer: KeyValueBuffer
    logits: torch.Tensor


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
    recurrent: frozenset[int] = frozenset()
    """The layers whose state can be kept where a pass ends, but not cut."""
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
            while jobs := self._shared_beginnings(rows) or self._passes_of_their_own(rows):
                for batch in similar_lengths(jobs, lambda job: job[1].end - job[0].done, max_rows):
                    self._compute([row for row, _ in batch], [boundary.end for _, boundary in batch], keep=1)
                for row in rows:
                    row.base = self._longest_known(row)
        batches = similar_lengths(rows, lambda row: len(row.ids) - row.done, max_rows)
        for group in batches:
            keep = max(1, *(len(row.continuation) for row in group))
            ends = [len(row.ids) for row in group]
            buffer, logits = self._compute(group, ends, keep)
            yield Prefilled(group, buffer, logits)
        self.counters.tokens_reused += sum(len(row.ids) for row in rows) - (self.counters.tokens_prefilled - computed)
        self.held = {}

    def keep_turn(self, row: BatchRow, key: str, end: int, states: Sequence[States]) -> None:
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

    def _passes_of_their_own(self, rows: Sequence[BatchRow]) -> list[tuple[BatchRow, Boundary]]:
        """Rows that gain from a pass up to their last boundary."""
        if not self.recurrent:
            return self._outliers(rows)
        # Later calls can only go on from where a pass ended.
        return [(row, row.missing()[-1]) for row in rows if row.missing()]

    def _outliers(self, rows: Sequence[BatchRow]) -> list[tuple[BatchRow, Boundary]]:
        """Rows so much longer than the others that padding to them would cost more than a pass of their own."""
        sizes = [len(row.ids) - row.done for row in rows]
        if max(sizes) * len(sizes) <= MAX_PADDING * sum(sizes):
            return []
        mean = sum(sizes) / len(sizes)
        return [
            (row, row.missing()[-1]) for row, size in zip(rows, sizes, strict=True) if size > mean and row.missing()
        ]

    def _compute(self, rows: list[BatchRow], ends: list[int], keep: int) -> tuple[KeyValueBuffer, torch.Tensor]:
        """One forward pass over every row's ids from its base to its end; keeps what may be reused."""
        starts = [row.done for row in rows]
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        ids, embeds, positions, deep = self._tokens(rows, starts, ends)
        begin = time.perf_counter()
        buffer = KeyValueBuffer(self.layers, [row.base for row in rows], lengths, self.recurrent)
        found = []
        for part, width, cache in buffer.parts():
            tokens = (ids[part, -width:], embeds[part, -width:], positions[:, part, -width:])
            further = None if deep is None else deep[part, -width:]
            found.append(self.forward(cache, keep, *tokens, further))
        logits = _right_aligned(found)
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
            if self.recurrent and boundary.end < end:
                continue
            known = self.held.get(boundary.key) or self.cache.get(boundary.key)
            if known is None:
                states = buffer.slice(number, origin + row.done, origin + boundary.end)
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
        buffer: KeyValueBuffer | BufferPart,
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


def _right_aligned(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """(rows, kept tokens, vocabulary) of all rows; short passes give fewer tokens than others."""
    if len(logits) == 1:
        return logits[0]
    width = max(part.shape[1] for part in logits)
    return torch.cat([torch.nn.functional.pad(part, (0, 0, width - part.shape[1], 0)) for part in logits])
