"""What a user is to be told when a run begins: arguments without effect, and processes that were not started."""

from __future__ import annotations

import os
from collections.abc import Iterator

from accelerate import Accelerator

from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.harness.arguments import RunConfig

__all__ = ["ALONE", "alone_despite_accelerate", "ignored_arguments"]

ALONE = (
    "accelerate launch started a single process: on CPUs it starts several only through MPI (--mpirun_hostfile). This "
    "one answers every question. To start N, run: ACCELERATE_USE_CPU=true torchrun --nproc-per-node N -m "
    "dualfocus_eval eval ..."
)


def ignored_arguments(config: RunConfig, engine: RunEngine) -> Iterator[str]:
    """A line for each argument of ``config`` that changes nothing with ``engine``."""
    if config.sources.get("max_thinking_tokens") == "argument" and not engine.thinks:
        yield "max_thinking_tokens has no effect: the checkpoint has no thinking markers"
    if config.batch_size > 1 and engine.parallel_calls > 1:
        yield (
            f"batch_size={config.batch_size} has no effect on servers: {engine.parallel_calls} questions are answered "
            "at the same time (concurrency)"
        )


def alone_despite_accelerate(accelerator: Accelerator) -> bool:
    """Whether ``accelerate launch`` was asked for several processes and started one.

    It announces a meeting point (MASTER_ADDR) to the only process; launchers that start several set WORLD_SIZE too.
    """
    launched = {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ
    return launched and accelerator.num_processes == 1
