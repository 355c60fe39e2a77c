"""How a model is laid out over GPUs and nodes: split only as far as its weights need, and as many copies as fit."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.common.errors import UserError

__all__ = ["Placement", "place"]

_SHARE = 0.6
"""Of a GPU's memory for weights; the rest is for the prefix cache, activations and CUDA graphs."""


@dataclass(frozen=True)
class Placement:
    """Independent servers, all alike, each with its own prefix cache."""

    nodes: int
    """In use."""
    gpus_per_server: int
    """GPUs of one node that a server splits its tensors over."""
    servers_per_node: int = 1
    nodes_per_server: int = 1
    """More than 1 where the weights do not fit into the GPUs of a node."""

    @property
    def servers(self) -> int:
        return self.nodes * self.servers_per_node // self.nodes_per_server

    @property
    def gpus(self) -> int:
        """In use."""
        return self.servers * self.gpus_per_server * self.nodes_per_server


def place(weight_bytes: int | None, heads: int | None, *, gpus: int, nodes: int, gpu_memory: float) -> Placement:
    """The layout on ``nodes`` with ``gpus`` each, of ``gpu_memory`` GB.

    Weights of unknown size are taken to fit into one GPU. Raises ``UserError`` where all GPUs together are too few.
    """
    room = _SHARE * gpu_memory * 1e9
    needed = max(1, -(-(weight_bytes or 0) // int(room)))
    widths = [2**power for power in range(gpus.bit_length()) if heads is None or heads % 2**power == 0]
    fitting = [width for width in widths if width >= needed]
    if fitting:
        width = fitting[0]
        return Placement(nodes, width, gpus // width)
    width = widths[-1]
    span = -(-needed // width)
    if span > nodes:
        raise UserError(
            f"the weights take {(weight_bytes or 0) / 1e9:.0f} GB, and {nodes} x {gpus} GPUs of {gpu_memory:g} GB hold "
            f"{_SHARE * nodes * width * gpu_memory:.0f} GB of weights: raise --gpus, --nodes or --gpu-memory"
        )
    return Placement(nodes // span * span, width, nodes_per_server=span)
