"""Greedy decoding of a prefilled batch, with the log-probability of every chosen token and the closest call."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dualfocus_eval.engines.base import Completion, Failure, FinishReason, GenerateRequest
from dualfocus_eval.engines.kv_buffer import KeyValueBuffer
from dualfocus_eval.engines.prefill import BatchRow, Prefilled, Prefiller

__all__ = ["Decoder"]


@dataclass(eq=False)
class _Answer:
    """One answer in the making."""

    row: BatchRow
    request: GenerateRequest
    processors: Any
    """transformers' LogitsProcessorList of the checkpoint's generation settings; empty for most."""
    slot_of_token_0: int
    """The slot that the row's first token would have if its tokens lay contiguously before the generated ones."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    gap: float = math.inf
    """See `Completion.gap`."""
    text: str = ""
    finish: FinishReason | None = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        return self.finish is not None or self.failure is not None

    def processed(self, logits: torch.Tensor) -> torch.Tensor:
        """(1, vocabulary) logits after the checkpoint's own logits processors, which see this answer's tokens only."""
        ids = torch.tensor([[*self.row.ids, *self.ids]], device=logits.device)
        return self.processors(ids, logits)  # type: ignore[no-any-return]

    def result(self) -> Completion | Failure:
        if self.failure is not None:
            return self.failure
        # No gap is finite where the checkpoint's processors allow one token only.
        gap = self.gap if math.isfinite(self.gap) else None
        return Completion(self.text, tuple(self.ids), tuple(self.logprobs), self.finish or "length", gap)


@dataclass(eq=False)
class Decoder:
    """Decodes for one checkpoint. ``max_positions`` is the longest sequence that the model was built for."""

    prefiller: Prefiller
    tokenizer: Any
    generation_config: Any
    end_ids: frozenset[int]
    max_positions: int

    def decode(self, batch: Prefilled, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """Completions of ``batch.rows`` in their order; rows leave the batch when they end.

        A row whose logits are not finite fails, of kind ``not_finite``.
        """
        begin = time.perf_counter()
        buffer, counters = batch.buffer, self.prefiller.counters
        end_slot = buffer.prefix_slots + buffer.suffix_slots
        answers = [
            _Answer(row, request, self._processors(row, request), end_slot - len(row.ids))
            for row, request in zip(batch.rows, requests, strict=True)
        ]
        rows = answers  # the buffer's rows; ended ones stay until dropping them is worth the copy
        logits = batch.logits[:, -1]  # (rows, vocabulary)
        while True:
            for number in self._choose(rows, logits):
                self._keep_states(rows[number], number, buffer)
            active = [number for number, answer in enumerate(rows) if not answer.ended]
            if not active:
                break
            if 2 * len(active) <= len(rows):
                buffer.keep(active)
                rows = [rows[number] for number in active]
            logits = self._step(rows, buffer)
            counters.decode_steps += len(active)
        counters.seconds["decode"] = counters.seconds.get("decode", 0.0) + time.perf_counter() - begin
        return [answer.result() for answer in answers]

    def _choose(self, rows: Sequence[_Answer], logits: torch.Tensor) -> list[int]:
        """Append the likeliest token to every unfinished answer; the numbers of those that end well with it."""
        # NaN or infinite where any of the model's own logits is; the checkpoint's processors may rule tokens out with
        # minus infinity.
        total = logits.sum(dim=-1, keepdim=True)  # (rows, 1)
        if any(answer.processors for answer in rows):
            logits = torch.cat([answer.processed(logits[number : number + 1]) for number, answer in enumerate(rows)])
        logprobs, tokens = torch.log_softmax(logits, dim=-1), logits.argmax(dim=-1, keepdim=True)
        first = logprobs.gather(1, tokens)  # (rows, 1)
        second = logprobs.scatter_(1, tokens, -math.inf).amax(dim=-1, keepdim=True)  # a fraction of the time of topk
        best = torch.cat([first, second, total], dim=1).tolist()  # one transfer from the device
        ended = []
        for number, (answer, (token,), (logprob, runner_up, checked)) in enumerate(
            zip(rows, tokens.tolist(), best, strict=True)
        ):
            if answer.ended:
                continue
            answer.ids.append(token)
            if not math.isfinite(checked):
                answer.failure = self.prefiller.not_finite(answer.row)
                continue
            answer.logprobs.append(logprob)
            answer.gap = min(answer.gap, logprob - runner_up)
            answer.finish = self._finish(answer)
            if answer.finish is not None:
                ended.append(number)
        return ended

    def _finish(self, answer: _Answer) -> FinishReason | None:
        """Why the answer ends with its latest token, or None; sets its text when it ends."""
        request = answer.request
        reason: FinishReason | None = None
        if answer.ids[-1] in self.end_ids:
            reason = "eos"
        elif len(answer.ids) >= request.max_new_tokens or len(answer.row.ids) + len(answer.ids) >= self.max_positions:
            reason = "length"
        if reason is None and not request.stop:
            return None
        text = self.tokenizer.decode(answer.ids, skip_special_tokens=True)
        cut = min((at for at in (text.find(stop) for stop in request.stop if stop) if at >= 0), default=None)
        if cut is not None and reason != "eos":
            reason = "stop"
        answer.text = text if cut is None else text[:cut]
        return reason

    def _step(self, rows: Sequence[_Answer], buffer: KeyValueBuffer) -> torch.Tensor:
        """Feed every row its latest token; the next logits, (rows, vocabulary)."""
        model = self.prefiller.model
        ids = torch.tensor([[answer.ids[-1]] for answer in rows], device=model.device)
        following = torch.tensor([[a.row.prompt.next_position + len(a.ids) - 1] for a in rows], device=model.device)
        positions = following.expand(len(rows[0].row.prompt.positions), -1, -1)  # (axes, rows, 1)
        buffer.extend_mask()
        return self.prefiller.forward(buffer, 1, ids, model.get_input_embeddings()(ids), positions)[:, -1]

    def _keep_states(self, answer: _Answer, number: int, buffer: KeyValueBuffer) -> None:
        """Leave the states of prompt and answer to the prefix cache: a second pass goes on from them."""
        # The latest token has not been fed, so there are no states of it. An end token is not part of the turn.
        fed = answer.ids[:-1]
        row = answer.row
        if not fed or not self.prefiller.reuse:
            return
        end = len(row.ids) + len(fed)
        start = answer.slot_of_token_0 + (row.base.end if row.base else 0)
        states = buffer.slice(number, start, answer.slot_of_token_0 + end)
        self.prefiller.keep_turn(row, row.prompt.key_with(fed), end, states)

    def _processors(self, row: BatchRow, request: GenerateRequest) -> Any:
        settings = copy.copy(self.generation_config)
        settings.max_length = len(row.ids) + request.max_new_tokens
        model = self.prefiller.model
        return model._get_logits_processor(settings, input_ids_seq_length=len(row.ids), device=model.device)
