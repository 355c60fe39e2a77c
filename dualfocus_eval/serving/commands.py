"""The command lines of servers: one for every kind of process, to be run in a POSIX shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.serving.placement import Placement
from dualfocus_eval.serving.serving import IMAGES, ModelToServe

__all__ = ["Launch", "addresses", "host_name", "launches"]

_LOGPROBS = 20
"""Log-probabilities per token that may be asked for; the client asks for five at most."""
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks for which vLLM can make room."""
_RENDEZVOUS = 29501
"""Port at which the processes of one server on several nodes meet."""


@dataclass(frozen=True)
class Launch:
    """What one node runs, or every node where ``node`` is None."""

    node: int | None
    words: tuple[str, ...]
    """Without what differs between the servers of a node."""
    port: int
    """Of the node's first server; the others have the next ones."""
    servers: int
    """Of the same kind on the node."""
    gpus: int
    """Of each of them."""

    def __str__(self) -> str:
        """It as a shell takes it, a flag to a line; several servers of a node as a loop."""
        lines = list(_with_values(self.words))
        if self.servers == 1:
            return " \\\n  ".join([*lines, f"--port {self.port}"])
        numbers = " ".join(map(str, range(self.servers)))
        last = f"--port $(({self.port} + i)) &"
        program, *flags = [f"CUDA_VISIBLE_DEVICES={self._visible} {lines[0]}", *lines[1:], last]
        return "\n".join([f"for i in {numbers}; do", "  " + " \\\n    ".join([program, *flags]), "done", "wait"])

    @property
    def _visible(self) -> str:
        """Numbers of the GPUs of server ``i`` of a node."""
        if self.gpus == 1:
            return "$i"
        return ",".join(f"$(({self.gpus} * i + {number}))" for number in range(self.gpus))


def _with_values(words: Iterable[str]) -> Iterator[str]:
    """The program, then every flag with its values."""
    line: list[str] = []
    for word in words:
        if word.startswith("--") and line:
            yield " ".join(line)
            line = []
        line.append(shlex.quote(word))
    yield " ".join(line)


def launches(server: str, model: ModelToServe, placement: Placement, *, port: int, context: int | None) -> list[Launch]:
    """The processes of ``placement`` on ``server``, ``vllm`` or ``sglang``.

    Raises ``UserError`` for an adapter that cannot be served.
    """
    common, layout = (
        (_vllm(model, context), _vllm_layout) if server == "vllm" else (_sglang(model, context), _sglang_layout)
    )
    span = placement.nodes_per_server
    host = "127.0.0.1" if placement.nodes == 1 else "0.0.0.0"
    common = [*common, "--host", host]
    if span == 1:
        words = (*common, *layout(placement, None, 0))
        return [Launch(None, words, port, placement.servers_per_node, placement.gpus_per_server)]
    return [
        Launch(first + rank, (*common, *layout(placement, host_name(first), rank)), port, 1, placement.gpus_per_server)
        for first in range(0, placement.servers * span, span)
        for rank in range(span)
    ]


def host_name(node: int) -> str:
    """What stands for the name of a node."""
    return f"NODE{node}"


def addresses(placement: Placement, port: int) -> list[str]:
    """Base URLs of the servers, with `host_name` for hosts where there are several nodes."""
    if placement.nodes_per_server > 1:
        heads = range(0, placement.servers * placement.nodes_per_server, placement.nodes_per_server)
        return [f"http://{host_name(node)}:{port}" for node in heads]
    hosts = ["localhost"] if placement.nodes == 1 else [host_name(node) for node in range(placement.nodes)]
    return [f"http://{host}:{port + place}" for host in hosts for place in range(placement.servers_per_node)]


def _vllm(model: ModelToServe, context: int | None) -> list[str]:
    return [
        *("vllm", "serve", model.checkpoint),
        *("--served-model-name", model.name),
        *("--dtype", model.dtype),
        *("--limit-mm-per-prompt", _compact({"image": IMAGES})),
        "--enable-prefix-caching",
        *("--max-logprobs", str(_LOGPROBS)),
        "--enable-prompt-tokens-details",
        *_option("--revision", model.revision),
        *_option("--max-model-len", context),
        *_option("--mm-processor-kwargs", _compact(model.pixels) if model.pixels else None),
        *(["--trust-remote-code"] if model.trust_remote_code else []),
        *_vllm_adapter(model),
    ]


def _vllm_adapter(model: ModelToServe) -> list[str]:
    if model.adapter is None:
        return []
    adapter = model.adapter
    rank = next((rank for rank in _LORA_RANKS if rank >= adapter.rank), None)
    if rank is None:
        raise UserError(
            f"peft={adapter.path}: rank {adapter.rank} is above {_LORA_RANKS[-1]}, the most that vLLM serves: merge "
            "the adapter into the checkpoint and serve that"
        )
    return ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", f"{adapter.name}={adapter.path}"]


def _vllm_layout(placement: Placement, head: str | None, rank: int) -> list[str]:
    words = _option("--tensor-parallel-size", placement.gpus_per_server if placement.gpus_per_server > 1 else None)
    if head is None:
        return words
    words += ["--pipeline-parallel-size", str(placement.nodes_per_server)]
    words += ["--nnodes", str(placement.nodes_per_server), "--node-rank", str(rank)]
    words += ["--master-addr", head, "--master-port", str(_RENDEZVOUS)]
    return [*words, "--headless"] if rank else words


def _sglang(model: ModelToServe, context: int | None) -> list[str]:
    if model.adapter is not None:
        raise UserError(
            f"peft={model.adapter.path}: the client asks only vLLM for adapters: pass --server vllm, or merge it into "
            "the checkpoint and serve that"
        )
    return [
        *("python", "-m", "sglang.launch_server"),
        *("--model-path", model.checkpoint),
        *("--served-model-name", model.name),
        *("--dtype", model.dtype),
        "--enable-multimodal",
        *("--limit-mm-data-per-request", _compact({"image": IMAGES})),
        "--enable-cache-report",
        *_option("--revision", model.revision),
        *_option("--context-length", context),
        *_option("--mm-process-config", _compact({"image": dict(model.pixels)}) if model.pixels else None),
        *(["--trust-remote-code"] if model.trust_remote_code else []),
    ]


def _sglang_layout(placement: Placement, head: str | None, rank: int) -> list[str]:
    size = placement.gpus_per_server * placement.nodes_per_server
    words = _option("--tp-size", size if size > 1 else None)
    if head is None:
        return words
    words += ["--nnodes", str(placement.nodes_per_server), "--node-rank", str(rank)]
    return [*words, "--dist-init-addr", f"{head}:{_RENDEZVOUS}"]


def _option(flag: str, value: object | None) -> list[str]:
    return [] if value is None else [flag, str(value)]


def _compact(value: Mapping[str, object]) -> str:
    return json.dumps(dict(value), separators=(",", ":"))
