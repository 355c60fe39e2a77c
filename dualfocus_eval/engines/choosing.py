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
        ids = torch.tensor([[*self.prompt_ids, *self.ids]], device=logits.device)
        return self.processors(ids, logits)  # type: ignore[no-any-return]

    def result(self) -> Completion | Failure:
        """What the answer has come to."""
        if self.failure is not None:
            return self.failure
        # No gap is finite where the checkpoint's processors allow one token only.
        gap = self.gap if math.isfinite(self.gap) else None
        return Completion(self.text, tuple(self.ids), tuple(self.logprobs), self.finish or "length", gap)


@dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses greedily for one checkpoint."""

    checkpoint: Checkpoint

    def answer(self, prompt_ids: tuple[int, ...], request: GenerateRequest) -> Answer:
        """The answer to ``request``, before its first token."""
        model, settings = self.checkpoint.model, copy.copy(self.checkpoint.generation_config)
        settings.max_length = len(prompt_ids) + request.max_new_tokens
        processors = model._get_logits_processor(settings, input_ids_seq_length=len(prompt_ids), device=model.device)
        return Answer(prompt_ids, request, processors)

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
            answer.gap = min(answer.gap, logprob - runner_up)
            answer.finish = self._finish(answer)
            if answer.finish is not None:
                ended.append(number)
        return ended

    def _finish(self, answer: Answer) -> FinishReason | None:
        """Why the answer ends with its latest token, or None; sets its text when it ends."""
        request, length = answer.request, len(answer.ids)
        reason: FinishReason | None = None
        if answer.ids[-1] in self.checkpoint.end_ids:
            reason = "eos"
        elif length >= request.max_new_tokens or len(answer.prompt_ids) + length >= self.checkpoint.max_positions:
            reason = "length"
        if reason is None and not request.stop:
            return None
        text = self.checkpoint.processor.tokenizer.decode(answer.ids, skip_special_tokens=True)
        cut = min((at for at in (text.find(stop) for stop in request.stop if stop) if at >= 0), default=None)
        if cut is not None and reason != "eos":
            reason = "stop"
        answer.text = text if cut is None else text[:cut]
        return reason
