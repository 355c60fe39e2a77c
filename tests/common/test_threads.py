"""Several calls at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dualfocus_eval.common.threads import results_of


def test_results_come_as_they_are_done() -> None:
    first = threading.Event()

    def run(number: int) -> int:
        if number == 0:
            first.wait(20)
        return number

    found = []
    for number in results_of(run, range(5), 3):
        found.append(number)
        if len(found) == 4:
            first.set()
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert found[-1] == 0


def test_what_has_begun_is_ended_after_an_interruption() -> None:
    """The calls would wait for ever."""
    ended = threading.Event()
    begun: list[int] = []

    def run(number: int) -> None:
        begun.append(number)
        ended.wait()

    def items() -> Iterator[int]:
        yield from (0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(results_of(run, items(), 8, ended.set))
    assert begun == [0, 1]
