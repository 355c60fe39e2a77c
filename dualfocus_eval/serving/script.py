"""Everything that ``dualfocus serve-command`` prints: notes, a command for every process, and the evaluation."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.serving.commands import addresses, host_name, launches
from dualfocus_eval.serving.context import context_tokens
from dualfocus_eval.serving.placement import Placement, place
from dualfocus_eval.serving.serving import ModelToServe, model_to_serve

__all__ = ["Cluster", "serving_script"]

_CONCURRENCY = 64
"""Requests in flight for each server."""


@dataclass(frozen=True)
class Cluster:
    """The machines, all alike."""

    gpus: int
    """Per node."""
    nodes: int
    gpu_memory: float
    """Of one GPU, in GB."""
    port: int
    """Of the first server of a node; its others have the next ports."""


def serving_script(
    config: EngineConfig, settings: Settings, new_tokens: int, server: str, cluster: Cluster, recipe: str | None
) -> Iterator[str]:
    """Lines of a shell script in parts; what is meant for people is a comment.

    ``new_tokens`` is the longest answer. Raises ``UserError`` for what cannot be served on ``cluster``.
    """
    model = model_to_serve(config)
    placement = place(
        model.weight_bytes, model.heads, gpus=cluster.gpus, nodes=cluster.nodes, gpu_memory=cluster.gpu_memory
    )
    wanted = context_tokens(config, settings, new_tokens)
    context = min(wanted, model.longest_context) if wanted and model.longest_context else wanted
    parts = launches(server, model, placement, port=cluster.port, context=context)
    for note in _notes(config, model, placement, cluster, wanted):
        yield f"# {note}"
    for part in parts:
        where = "every node" if part.node is None else host_name(part.node)
        yield f"\n# on {where}" if cluster.nodes > 1 else ""
        yield str(part)
    yield "\n# the evaluation, once the servers are ready"
    yield _evaluation(model, addresses(placement, cluster.port), recipe)


def _notes(
    config: EngineConfig, model: ModelToServe, placement: Placement, cluster: Cluster, wanted: int | None
) -> Iterator[str]:
    size = "of unknown size" if model.weight_bytes is None else f"of {model.weight_bytes / 1e9:.3g} GB"
    where = _counted(placement.gpus_per_server, "GPU")
    if placement.nodes_per_server > 1:
        where += f" of each of {placement.nodes_per_server} nodes"
    yield f"weights {size}; {_counted(placement.servers, 'server')}, {where} for each"
    if placement.gpus < cluster.gpus * cluster.nodes:
        yield f"{cluster.gpus * cluster.nodes - placement.gpus} of {cluster.gpus * cluster.nodes} GPUs are not used"
    if model.weight_bytes is None:
        yield "one GPU is taken to hold them; download the checkpoint and run this again to have it computed"
    if wanted is None:
        yield "the processor cannot be read here, so the context length is the server's own choice"
    elif model.longest_context and wanted > model.longest_context:
        yield (
            f"two large images, the texts and the longest answer would take {wanted} tokens, and the checkpoint's "
            f"context is {model.longest_context}"
        )
    if config.image_aspect == "pad":
        yield "image_aspect=pad is not a server's to do: images are shown as the checkpoint's own processor does it"
    if cluster.nodes > 1:
        yield "put the nodes' host names in the place of NODE0, NODE1 and so on"


def _evaluation(model: ModelToServe, servers: list[str], recipe: str | None) -> str:
    """``dualfocus eval`` on ``servers``."""
    urls = ",".join(servers)
    arguments = {
        "engine": "server",
        "base_url": f'"{urls}"' if len(servers) > 1 else urls,  # the parser's way to keep commas in a value
        "model": model.answering,
        "pretrained": model.checkpoint,
        **({"revision": model.revision} if model.revision else {}),
        **({"recipe": recipe} if recipe else {}),
        **({"trust_remote_code": "True"} if model.trust_remote_code else {}),
        "concurrency": str(min(_CONCURRENCY * len(servers), 4096)),
    }
    words = ["dualfocus", "eval", "--tasks", "df_pope", "--output_path", "results", "--model_args"]
    return shlex.join([*words, ",".join(f"{name}={value}" for name, value in arguments.items())])


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
