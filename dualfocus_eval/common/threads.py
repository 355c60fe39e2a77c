"""Several calls at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

__all__ = ["results_of"]

T = TypeVar("T")
R = TypeVar("R")


def results_of(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    ending: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[R]:
    """Results of ``function`` for all ``items``, ``workers`` of them at a time, in the order in which they are done.

    With one worker, in the caller's thread. ``items`` are taken one by one in the caller's thread, as workers become
    free. What ``function`` raises is raised here, once the calls that have begun are done. After a KeyboardInterrupt
    they are waited for within ``ending``, which makes them short.
    """
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="call")
    try:
        pending: set[Future[R]] = set()
        for item in items:
            pending.add(pool.submit(function, item))
            if len(pending) >= workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except KeyboardInterrupt:
        with ending():
            pool.shutdown(cancel_futures=True)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
