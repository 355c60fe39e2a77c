"""Long lists on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from dualfocus_eval.common.escaping import one_line

__all__ = ["list_faults"]

_SHOWN = 20


def list_faults(faults: Sequence[str], rest: Callable[[int], str]) -> None:
    """Print the first faults to standard error, and ``rest`` of the number of those left out."""
    for fault in faults[:_SHOWN]:
        print(one_line(fault), file=sys.stderr)
    if len(faults) > _SHOWN:
        print(one_line(rest(len(faults) - _SHOWN)), file=sys.stderr)
