"""Several calls at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

__all__ = ["results_of"]

T = TypeVar("T")
R = TypeVar("R")


_SOON = 0.1
"""Seconds between two looks at calls that are to end."""


def results_of(
    function: Callable[[T], R], items: Iterable[T], workers: int, interrupt: Callable[[], None] = lambda: None
) -> Iterator[R]:
    """Results of ``function`` for all ``items``, ``workers`` of them at a time, in the order in which they are done.

    With one worker, in the caller's thread. ``items`` are taken one by one in the caller's thread, as workers become
    free. What ``function`` raises is raised here, once the calls that have begun are done. On KeyboardInterrupt, and
    where nobody wants further results, ``interrupt`` is called, to end them, until they are.
    """
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="call")
    pending: set[Future[R]] = set()
    try:
        for item in items:
            pending.add(pool.submit(function, item))
            if len(pending) >= workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except (KeyboardInterrupt, GeneratorExit):
        pool.shutdown(wait=False, cancel_futures=True)
        while wait(pending, timeout=_SOON).not_done:
            interrupt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
