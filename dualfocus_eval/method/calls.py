"""Calls whose exceptions cost one question instead of the batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TypeVar

from dualfocus_eval.engines.base import Failure, RunEndedError

__all__ = ["attempt", "call"]

_log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT", bound=Hashable)
ResultT = TypeVar("ResultT")


def call(
    run: Callable[[Sequence[RequestT]], Sequence[ResultT]],
    requests: Sequence[RequestT],
    kind: str = "engine_error",
) -> list[ResultT | Failure]:
    """Results of all requests. Equal requests are sent once; what ``run`` raises costs only the request at fault.

    So does another number of results than of requests: whose each of them is cannot be told.
    """
    distinct = list(dict.fromkeys(requests))
    if not distinct:
        return []
    results: Sequence[ResultT | Failure] | Failure = attempt(partial(_one_each, run, distinct), kind)
    if isinstance(results, Failure):
        alone = [attempt(partial(_one_each, run, [request]), kind) for request in distinct]
        results = [result if isinstance(result, Failure) else result[0] for result in alone]
    by_request = dict(zip(distinct, results, strict=True))
    return [by_request[request] for request in requests]


def _one_each(
    run: Callable[[Sequence[RequestT]], Sequence[ResultT]], requests: Sequence[RequestT]
) -> Sequence[ResultT]:
    results = run(requests)
    if len(results) != len(requests):
        raise ValueError(f"{len(results)} results of {len(requests)} requests")
    return results


def attempt(compute: Callable[[], ResultT], kind: str = "engine_error") -> ResultT | Failure:
    """What ``compute`` returns, or a Failure of ``kind`` for what it raises, logged with its traceback."""
    try:
        return compute()
    except RunEndedError:
        raise
    except Exception as error:
        _log.exception("%s: raised instead of returning a failure", kind)
        return Failure(kind, f"{type(error).__name__}: {error}")
