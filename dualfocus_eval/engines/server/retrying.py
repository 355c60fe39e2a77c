"""What is tried again, how often, and after which pauses."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.replies import BadReplyError
from dualfocus_eval.engines.server.server import RequestFailedError, Server

__all__ = ["error_of", "retrying", "starting"]

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0
"""Seconds between two tries of one request, if the server asks for no more."""
_GROWING = wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE)


def retrying(
    config: ServerConfig,
    *,
    before_pause: Callable[[RetryCallState], None] | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> AsyncRetrying:
    """Tries of one request, until it succeeds, its retries are used up or ``give_up`` says so; the last error is
    raised."""

    def pause(state: RetryCallState) -> float:
        asked = getattr(error_of(state), "retry_after", None)
        return _GROWING(state) if asked is None else min(float(asked), config.timeout)

    enough = stop_after_attempt(config.retries + 1)
    return AsyncRetrying(
        stop=lambda state: give_up() or enough(state),
        wait=pause,
        retry=retry_if_exception(_may_pass),
        before_sleep=before_pause,
        reraise=True,
    )


def starting(server: Server, config: ServerConfig) -> AsyncRetrying:
    """Tries of a request to ``server`` before the run begins, as `retrying`; the user is told of each pause."""

    def tell(state: RetryCallState) -> None:
        logger.warning("%s: %s; trying again in %.0f s", server.address, error_of(state), state.upcoming_sleep)

    return retrying(config, before_pause=tell)


def error_of(state: RetryCallState) -> BaseException | None:
    """What the latest try raised."""
    return state.outcome.exception() if state.outcome else None


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, RequestFailedError):
        return error.passing
    return isinstance(error, BadReplyError) and error.kind == "bad_reply"
