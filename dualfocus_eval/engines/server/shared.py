"""What all calls to the servers of a run have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal

from dualfocus_eval.engines.base import Counters, RunEndedError
from dualfocus_eval.engines.server.abilities import Abilities
from dualfocus_eval.engines.server.beginning import Beginning, Beginnings
from dualfocus_eval.engines.server.messages import ImageUrls
from dualfocus_eval.engines.server.pool import ServerPool
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.replies import BadReplyError, Reply
from dualfocus_eval.engines.server.sglang import NativeScorer
from dualfocus_eval.engines.thinking import ThinkingFormat
from dualfocus_eval.families import Family

__all__ = ["Shared"]

R = TypeVar("R")


@dataclass(eq=False)
class Shared:
    """What all calls have in common."""

    portal: BlockingPortal
    pool: ServerPool
    urls: ImageUrls
    model: str
    abilities: Abilities
    tokens: PromptTokens | None
    """None where the checkpoint's processor is not at hand."""
    family: Family
    check: Callable[[Reply], None]
    """Raises where a reply is of another model than the run's."""
    image_options: Mapping[str, Any] = field(default_factory=dict)
    """What the server's image processor is told with every request."""
    total: Counters = field(default_factory=Counters)
    """What was done for all callers together."""
    native: NativeScorer = field(default_factory=NativeScorer)
    beginnings: Beginnings = field(default_factory=Beginnings)
    """How the server is made to answer at once."""
    retokenised: int = 0
    """Requests whose prompt the server tokenised otherwise than the model had generated it."""
    calls: set[Future[Any]] = field(default_factory=set)
    """Those that are running."""

    def run(self, work: Callable[[], Awaitable[R]]) -> R:
        """What ``work`` gives in the event loop. Raises ``RunEndedError`` where `interrupt` ended it."""
        call = self.portal.start_task_soon(work)
        self.calls.add(call)
        try:
            return call.result()
        except CancelledError:
            raise RunEndedError("interrupted") from None
        finally:
            call.cancel()  # where this thread is interrupted
            self.calls.discard(call)

    def interrupt(self) -> None:
        """End the calls that are running."""
        for call in tuple(self.calls):
            call.cancel()

    @property
    def thinking(self) -> ThinkingFormat | None:
        """How the checkpoint marks its thinking; None for one that does not think, or is not known."""
        return self.tokens.template.thinking if self.tokens else None

    @property
    def sampling(self) -> dict[str, float]:
        """Greedy decoding as the checkpoint's settings ask for it, whatever the server has been started with."""
        greedy: dict[str, float] = {"temperature": 0}
        if self.tokens is None or not self.abilities.token_ids:  # plain APIs refuse what they do not know
            return greedy
        return greedy | {
            "repetition_penalty": self.tokens.repetition_penalty,
            "presence_penalty": 0,
            "frequency_penalty": 0,
        }

    def beginning(self, *, answering: bool, begun: bool) -> Beginning:
        """How a request begins. Raises ``BadReplyError`` where no way leads to an answer at once."""
        if not answering and not begun:
            return Beginning()
        way = self.beginnings.begun if begun else self.beginnings.empty
        if way is None:
            raise BadReplyError("thinking_not_closed", "the server cannot be made to answer without thinking")
        return way
