"""Counting floating-point operations with torch's own counter, without doing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, flop_registry

__all__ = ["count_flops"]


class _ShapesOnly(TorchDispatchMode):
    """Every operation that counts returns zeros of the right shape; all others run."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func._overloadpacket not in flop_registry:
            return func(*args, **(kwargs or {}))
        device = next(argument.device for argument in args if isinstance(argument, torch.Tensor))
        shapes = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (args, kwargs or {}))
        return tree_map_only(
            torch.Tensor, lambda tensor: torch.zeros_like(tensor, device=device), func(*shapes[0], **shapes[1])
        )


def count_flops(run: Callable[[], Any]) -> tuple[int, Any]:
    """Operations of ``run`` and what it returns: the values are meaningless, the shapes are not.

    Right for whatever does as much for one answer as for another of the same length. Masked attention counts in full.
    """
    with _ShapesOnly(), FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops(), result
