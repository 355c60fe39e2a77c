"""``dualfocus serve-command``: how to start servers for a model, and how to evaluate on them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.cli.model_args import parse_arguments
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.harness.arguments import check, resolve
from dualfocus_eval.recipe import recipe_names

__all__ = ["main"]

_PORTS = {"vllm": 8000, "sglang": 30000}
"""The servers' own defaults."""
_EPILOG = """The output is a shell script in parts: one command for each server process, and the evaluation on all of
them. Nothing is started. docs/scale.md explains the layout. SGLang's commands follow its documentation; this package's
tests have not run it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the commands; 0 when they could be made. Raises ``UserError`` for what cannot be served so."""
    chosen = _parser().parse_args(argv)
    for flag in ("gpus", "nodes", "gpu_memory", "port"):
        if (value := getattr(chosen, flag)) is not None and not 0 < value < math.inf:  # nor NaN
            raise UserError(f"--{flag.replace('_', '-')} {value:g}: give a number above 0")
    named = _named(chosen.model)
    arguments = named | parse_arguments("--model_args", chosen.model_args)
    if arguments.get("engine", "in_process") != "in_process":
        raise UserError("--model_args: engine is not for this command: it prints what a server is started with")
    check(arguments)
    config = resolve(arguments)
    from dualfocus_eval.harness.generation import DEFAULT_MAX_NEW_TOKENS
    from dualfocus_eval.serving.script import Cluster, serving_script

    cluster = Cluster(chosen.gpus, chosen.nodes, chosen.gpu_memory, chosen.port or _PORTS[chosen.server])
    engine = config.engine
    assert isinstance(engine, EngineConfig)
    for line in serving_script(
        engine, config.settings, DEFAULT_MAX_NEW_TOKENS, chosen.server, cluster, named.get("recipe")
    ):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus serve-command",
        description="Print the commands that serve a model for two passes, and the evaluation that goes with them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="RECIPE|CHECKPOINT", help="a recipe, a checkpoint folder, or a hub id")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs per node (default: 1)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of a cluster (default: 1)")
    parser.add_argument("--gpu-memory", type=float, default=80.0, metavar="GB", help="of one GPU (default: 80)")
    parser.add_argument("--server", choices=sorted(_PORTS), default="vllm", help="default: vllm")
    parser.add_argument("--port", type=int, help="of a node's first server (default: 8000 for vllm, 30000 for sglang)")
    parser.add_argument(
        "--model_args",
        default="",
        metavar="NAME=VALUE,...",
        help="as for dualfocus eval, such as revision=, dtype=, peft=, max_pixels=, max_thinking_tokens=",
    )
    return parser


def _named(model: str) -> dict[str, str]:
    """``model`` as a model argument: what can be a recipe is one."""
    is_recipe = model in recipe_names() or Path(model).is_file() or not ("/" in model or Path(model).is_dir())
    return {"recipe": model} if is_recipe else {"pretrained": model}
