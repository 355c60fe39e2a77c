"""Which token comes next and when an answer ends: the same for every engine that has a model's logits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dualfocus_eval.engines.base import Completion, Failure, FinishReason, GenerateRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.thinking import ThinkingReader, unanswered

__all__ = ["Answer", "Chooser", "not_finite"]

_WIDER = {torch.float16: "try dtype=bfloat16 or dtype=float32", torch.bfloat16: "try dtype=float32"}
"""What to try where numbers leave the range of a type."""


def not_finite(what: str, dtype: torch.dtype) -> Failure:
    """The failure of a row for which ``what`` (a plural) came out as NaN or infinite, with what to try."""
    advice = _WIDER.get(dtype, "the checkpoint is damaged, or its training diverged")
    return Failure("not_finite", f"{what} are NaN or infinite in {str(dtype).removeprefix('torch.')}; {advice}")


@dataclass(eq=False)
class Answer:
    """One answer in the making."""

    prompt_ids: tuple[int, ...]
    request: GenerateRequest
    processors: Any
    """transformers' LogitsProcessorList of the checkpoint's generation settings; empty for most."""
    reader: ThinkingReader | None
    """Tells thinking from the answer; None for a checkpoint without markers."""
    ids: list[int] = field(default_factory=list)
    """Every generated token."""
    logprobs: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """See `Completion.gap`."""
    text: str = ""
    finish: FinishReason | None = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        return self.finish is not None or self.failure is not None

    @property
    def most_tokens(self) -> int:
        """How many tokens it may take."""
        return self.request.most_tokens(thinks=self.reader is not None)

    @property
    def begin(self) -> int | None:
        """How many of ``ids`` come before the answer; None while the model is thinking."""
        return self.reader.before(len(self.ids)) if self.reader else 0

    @property
    def thinking_tokens(self) -> int:
        """How many of ``ids`` are no part of an answer."""
        return len(self.ids) if self.begin is None else self.begin

    def processed(self, logits: torch.Tensor) -> torch.Tensor:
        """(1, vocabulary) logits after the checkpoint's own logits processors, which see this answer's tokens only."""
        ids = torch.tensor([[*self.prompt_ids, *self.ids]], device=logits.device)
        return self.processors(ids, logits)  # type: ignore[no-any-return]

    def result(self) -> Completion | Failure:
        """What the answer has come to."""
        if self.failure is not None:
            return self.failure
        begin = self.begin or 0
        # No gap is finite where the checkpoint's processors allow one token only.
        gap = min(self.gaps[begin:], default=math.inf)
        return Completion(
            self.text,
            tuple(self.ids[begin:]),
            tuple(self.logprobs[begin:]),
            self.finish or "length",
            gap if math.isfinite(gap) else None,
            self.reader.format.thinking(self.ids[:begin]) if self.reader and begin else None,
        )


@dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses greedily for one checkpoint."""

    checkpoint: Checkpoint

    def answer(self, prompt_ids: tuple[int, ...], request: GenerateRequest) -> Answer:
        """The answer to ``request``, before its first token."""
        model, settings = self.checkpoint.model, copy.copy(self.checkpoint.generation_config)
        thinking = self.checkpoint.thinking
        settings.max_length = len(prompt_ids) + request.most_tokens(thinks=thinking is not None)
        processors = model._get_logits_processor(settings, input_ids_seq_length=len(prompt_ids), device=model.device)
        return Answer(prompt_ids, request, processors, thinking.reader(prompt_ids) if thinking else None)

    def choose(
        self, answers: Sequence[Answer], logits: torch.Tensor, not_finite: Callable[[int], Failure]
    ) -> list[int]:
        """Append the likeliest token to every unfinished answer; the numbers of those that end well with it.

        ``logits`` are (answers, vocabulary), the model's own. An answer whose logits are NaN or infinite gets the
        failure that ``not_finite`` makes of its number.
        """
        # NaN or infinite where any of the model's own logits is; the checkpoint's processors may rule tokens out with
        # minus infinity.
        total = logits.sum(dim=-1, keepdim=True)  # (answers, 1)
        if any(answer.processors for answer in answers):
            rows = [answer.processed(logits[number : number + 1]) for number, answer in enumerate(answers)]
            logits = torch.cat(rows)
        logprobs, tokens = torch.log_softmax(logits, dim=-1), logits.argmax(dim=-1, keepdim=True)
        first = logprobs.gather(1, tokens)  # (answers, 1)
        second = logprobs.scatter_(1, tokens, -math.inf).amax(dim=-1, keepdim=True)  # a fraction of the time of topk
        best = torch.cat([first, second, total], dim=1).tolist()  # one transfer from the device
        ended = []
        for number, (answer, (token,), (logprob, runner_up, checked)) in enumerate(
            zip(answers, tokens.tolist(), best, strict=True)
        ):
            if answer.ended:
                continue
            answer.ids.append(token)
            if not math.isfinite(checked):
                answer.failure = not_finite(number)
                continue
            answer.logprobs.append(logprob)
            answer.gaps.append(logprob - runner_up)
            if answer.reader is not None:
                answer.reader.read(answer.ids)
            if answer.begin is None:
                answer.failure = self._thinking_failure(answer)
                continue
            answer.finish = self._finish(answer, answer.begin)
            if answer.finish is not None:
                ended.append(number)
        return ended

    def _thinking_failure(self, answer: Answer) -> Failure | None:
        """Why the thinking can have no answer, or None while it may go on."""
        length = len(answer.ids)
        if answer.ids[-1] in self.checkpoint.end_ids:
            return unanswered("thinking_unfinished", length)
        if len(answer.prompt_ids) + length >= self.checkpoint.max_positions:
            return unanswered("too_long", length)
        if length >= answer.request.max_thinking_tokens:
            return unanswered("thinking_budget", length)
        return None

    def _finish(self, answer: Answer, begin: int) -> FinishReason | None:
        """Why the answer, ``begin`` tokens on, ends with its latest token, or None; sets its text when it ends."""
        request, length, reader = answer.request, len(answer.ids), answer.reader
        reason: FinishReason | None = None
        closed = reader is not None and reader.closed_by(answer.ids[-1])
        counted = reader.after_thinking(length) if reader else length
        if answer.ids[-1] in self.checkpoint.end_ids or closed:
            reason = "eos"
        elif counted >= request.max_new_tokens or len(answer.prompt_ids) + length >= self.checkpoint.max_positions:
            reason = "length"
        if reason is None and (not request.stop or (reader and reader.begin is None)):
            return None
        shown = answer.ids[begin:-1] if closed else answer.ids[begin:]
        text = self.checkpoint.processor.tokenizer.decode(shown, skip_special_tokens=True)
        text = self.checkpoint.family.unmarked(text) if request.unmarked else text
        cut = request.stopped_at(text)
        if cut is not None and reason != "eos":
            reason = "stop"
        text = text if cut is None else text[:cut]
        answer.text = text.lstrip() if begin else text
        return reason
