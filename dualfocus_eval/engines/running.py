"""What a run asks of its engine beyond answers: who it is, what its answers depend on, how many calls at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualfocus_eval.engines.base import Conversation, Engine, Picture
from dualfocus_eval.families import Family

__all__ = ["EngineInfo", "RunEngine"]


@dataclass(frozen=True)
class EngineInfo:
    """What runs a model, and how."""

    engine: str
    family: str
    device: str | None
    """None where a server computes, which does not tell it; so is ``dtype``."""
    dtype: str | None
    no_reuse: str | None
    """Why the states of a prompt's beginning are not reused; None where they are, and where a server decides."""
    limited_reuse: str | None = None
    """Why the second pass does not reuse those of the first, where only this is so."""
    served: Mapping[str, str] = field(default_factory=dict)
    """What else is known of a server, by what it is."""


class RunEngine(Engine):
    """An engine that a run can be made with."""

    parallel_calls: int = 1
    """How many calls of `call_engine` may run at the same time, each in a thread of its own."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """The model's name, and after the last hyphen the digest of all of it that is known."""

    @property
    @abstractmethod
    def family(self) -> Family: ...

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """What runs the model, for people to read."""

    @property
    @abstractmethod
    def key(self) -> Mapping[str, str]:
        """What of the model can change an answer: part of the key of stored answers."""

    @property
    @abstractmethod
    def arithmetic(self) -> Mapping[str, str]:
        """What of the computation a stored answer must share to be reused; see `environment.arithmetic_of`."""

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, Any]:
        """What computes the answers, for the results file."""

    @property
    @abstractmethod
    def thinks(self) -> bool:
        """Whether the checkpoint has markers for what it thinks before an answer."""

    @property
    @abstractmethod
    def chat_template(self) -> str | None:
        """The checkpoint's chat template; None where it is not known."""

    @property
    def has_logprobs(self) -> bool:
        """Whether answers come with their log-probabilities."""
        return True

    @property
    def can_skip_thinking(self) -> bool:
        """Whether a checkpoint that thinks can be made to answer at once (``max_thinking_tokens=0``)."""
        return True

    @property
    def has_end_token(self) -> bool:
        """Whether the token that ends an answer is surely among its log-probabilities."""
        return True

    @property
    def can_score(self) -> bool:
        """Whether it can score given texts."""
        return self.scoring_problem is None

    @property
    def scoring_problem(self) -> str | None:
        """Why it cannot score given texts; None where it can."""
        return None

    @property
    def two_pass_problem(self) -> str | None:
        """Why it cannot answer in two passes, with what to do; None where it can."""
        return None

    @property
    def prefix_cache_bytes(self) -> int:
        """Budget of the prefix cache; 0 for an engine that has none of its own."""
        return 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not as one would expect; may grow during a run."""
        return ()

    def claim_traces(self, folder: Path) -> None:
        """Make sure that the answers in ``folder`` that are stored under `key` are of this very model.

        Only where ``key`` does not tell. Raises ``UserError`` where they are of another.
        """

    def questions_per_call(self, batch_size: int) -> int:
        """How many questions go into one call: where several calls run at the same time, each takes one."""
        return batch_size if self.parallel_calls == 1 else 1

    def call_engine(self) -> Engine:
        """The engine for one of several calls at the same time, with counters of its own."""
        return self

    def interrupt(self) -> None:
        """End the calls that are in other threads now, with ``RunEndedError``; where there are none, do nothing."""

    def other_ways(self) -> Mapping[str, Callable[[], Engine]]:
        """Engines of the same model that must give the same answers, by how they compute them; the plainest last."""
        return {}

    def expected_image_tokens(self, picture: Picture) -> int | None:
        """How many image tokens a prompt with ``picture`` alone must have; None where nothing else could be."""
        return None

    def prompt_parts(self, conversation: Conversation) -> tuple[str | int, ...]:
        """The prompt in reading order, special tokens included: texts, and the lengths of runs of image tokens.

        Empty where that is not known. Raises where the conversation cannot be rendered.
        """
        return ()

    def close(self) -> None:
        """Release what it holds."""
