"""Greedy decoding of a prefilled batch, from the states of its prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest
from dualfocus_eval.engines.batch_rows import BatchRow
from dualfocus_eval.engines.choosing import Answer, Chooser
from dualfocus_eval.engines.kv_buffer import KeyValueBuffer
from dualfocus_eval.engines.prefill import Prefilled, Prefiller

__all__ = ["Decoder"]


@dataclass(frozen=True, eq=False)
class _Row:
    """A row of the batch and its answer in the making."""

    row: BatchRow
    answer: Answer
    slot_of_token_0: int
    """The slot that the row's first token would have if its tokens lay contiguously before the generated ones."""


@dataclass(eq=False)
class Decoder:
    """Decodes for one checkpoint."""

    prefiller: Prefiller
    chooser: Chooser

    def decode(self, batch: Prefilled, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """Completions of ``batch.rows`` in their order; rows leave the batch when they end.

        A row whose logits are not finite fails, of kind ``not_finite``.
        """
        begin = time.perf_counter()
        buffer, counters = batch.buffer, self.prefiller.counters
        end_slot = buffer.prefix_slots + buffer.suffix_slots
        every = [
            _Row(row, self.chooser.answer(row.ids, request), end_slot - len(row.ids))
            for row, request in zip(batch.rows, requests, strict=True)
        ]
        rows = every  # the buffer's rows; ended ones stay until dropping them is worth the copy
        logits = batch.logits[:, -1]  # (rows, vocabulary)
        while True:
            for number in self._choose(rows, logits):
                self._keep_states(rows[number], number, buffer)
            active = [number for number, one in enumerate(rows) if not one.answer.ended]
            if not active:
                break
            if 2 * len(active) <= len(rows):
                buffer.keep(active)
                rows = [rows[number] for number in active]
            logits = self._step(rows, buffer)
            counters.decode_steps += len(active)
        counters.thinking_tokens += sum(one.answer.thinking_tokens for one in every)
        counters.seconds["decode"] = counters.seconds.get("decode", 0.0) + time.perf_counter() - begin
        return [one.answer.result() for one in every]

    def _choose(self, rows: Sequence[_Row], logits: torch.Tensor) -> list[int]:
        """Append the likeliest token to every unfinished answer; the numbers of those that end well with it."""
        answers = [one.answer for one in rows]
        return self.chooser.choose(answers, logits, lambda number: self.prefiller.not_finite(rows[number].row))

    def _step(self, rows: Sequence[_Row], buffer: KeyValueBuffer) -> torch.Tensor:
        """Feed every row its latest token; the next logits, (rows, vocabulary)."""
        model = self.prefiller.model
        ids = torch.tensor([[one.answer.ids[-1]] for one in rows], device=model.device)
        following = torch.tensor(
            [[one.row.prompt.next_position + len(one.answer.ids) - 1] for one in rows], device=model.device
        )
        positions = following.expand(len(rows[0].row.prompt.positions), -1, -1)  # (axes, rows, 1)
        buffer.extend_mask()
        return self.prefiller.forward(buffer, 1, ids, model.get_input_embeddings()(ids), positions)[:, -1]

    def _keep_states(self, ended: _Row, number: int, buffer: KeyValueBuffer) -> None:
        """Leave the states of prompt and answer to the prefix cache: a second pass goes on from them."""
        # The latest token has not been fed, so there are no states of it. An end token is not part of the turn.
        fed = ended.answer.ids[:-1]
        row = ended.row
        if not fed or not self.prefiller.reuse or ended.answer.thinking_tokens:
            return  # no later turn contains what the model thought
        end = len(row.ids) + len(fed)
        start = ended.slot_of_token_0 + (row.base.end if row.base else 0)
        states = buffer.slice(number, start, ended.slot_of_token_0 + end)
        self.prefiller.keep_turn(row, row.prompt.key_with(fed), end, states)
