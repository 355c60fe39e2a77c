"""Which tokens ``model.generate`` goes on with, step by step: the likeliest, or those of a given continuation."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from dualfocus_eval.engines.base import Counters, Score
from dualfocus_eval.engines.choosing import Answer, Chooser, not_finite

__all__ = ["ForcedLoop", "GenerationLoop", "GreedyLoop"]


@dataclass(eq=False)
class GenerationLoop(ABC):
    """Decides at every step of `generate` which tokens come next, from the logits of a batch."""

    counters: Counters
    first_step: float = field(default=0.0, init=False)
    """When the prompts' logits were there, by `time.perf_counter`."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps it takes at most."""

    @abstractmethod
    def unfinished(self) -> list[bool]:
        """Of every row, whether it goes on."""

    @abstractmethod
    def next_tokens(self, logits: torch.Tensor) -> list[int]:
        """The next token of every row, any for one that has ended; ``logits`` are the model's own,
        (rows, vocabulary)."""

    def run(
        self, model: Any, input_ids: torch.Tensor, logits_processor: Any, stopping_criteria: Any, **arguments: Any
    ) -> Any:
        """transformers' loop of greedy steps without the processors and criteria that `generate` has prepared.

        Those see the padding; ours see the tokens of each row alone.
        """
        return model._sample(
            input_ids,
            logits_processor=LogitsProcessorList([self]),
            stopping_criteria=StoppingCriteriaList([self._ended]),
            **arguments,
        )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As transformers' LogitsProcessor: scores that leave only the next tokens possible."""
        if not self.first_step:
            self.first_step = time.perf_counter()
        else:
            self.counters.decode_steps += sum(self.unfinished())
        tokens = torch.tensor(self.next_tokens(scores), device=scores.device).unsqueeze(1)  # (rows, 1)
        return torch.full_like(scores, -math.inf).scatter_(1, tokens, 0.0)

    def _ended(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return ~torch.tensor(self.unfinished(), device=input_ids.device)


@dataclass(eq=False)
class GreedyLoop(GenerationLoop):
    """The likeliest tokens, to the end of every answer."""

    chooser: Chooser
    answers: Sequence[Answer]
    dtype: torch.dtype

    @property
    def steps(self) -> int:
        return max(answer.most_tokens for answer in self.answers)

    def unfinished(self) -> list[bool]:
        return [not answer.ended for answer in self.answers]

    def next_tokens(self, logits: torch.Tensor) -> list[int]:
        self.chooser.choose(self.answers, logits, lambda _: not_finite("the model's logits", self.dtype))
        return [answer.ids[-1] for answer in self.answers]


@dataclass(eq=False)
class ForcedLoop(GenerationLoop):
    """Continuations that are given, with the log-probability of each of their tokens."""

    told: Sequence[tuple[int, ...]]
    noted: list[tuple[list[float], list[float], list[bool]]] = field(default_factory=list, init=False)
    """Of every step and row: the token's log-probability, the sum of the logits, whether it is the likeliest."""

    @property
    def steps(self) -> int:
        return max(map(len, self.told))

    def unfinished(self) -> list[bool]:
        return [len(self.noted) < len(told) for told in self.told]

    def next_tokens(self, logits: torch.Tensor) -> list[int]:
        step = len(self.noted)
        tokens = [told[min(step, len(told) - 1)] for told in self.told]
        given = torch.tensor(tokens, device=logits.device).unsqueeze(1)  # (rows, 1)
        logprobs = torch.log_softmax(logits, dim=-1).gather(1, given)[:, 0]
        likeliest = logits.argmax(dim=-1) == given[:, 0]
        self.noted.append((logprobs.tolist(), logits.sum(dim=-1).tolist(), likeliest.tolist()))
        return tokens

    def score(self, row: int) -> Score | None:
        """Of the row's continuation; None where a logit was not finite."""
        steps = self.noted[: len(self.told[row])]
        if not all(math.isfinite(total[row]) for _, total, _ in steps):
            return None
        return Score(tuple(logprobs[row] for logprobs, _, _ in steps), tuple(best[row] for _, _, best in steps))
