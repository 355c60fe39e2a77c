"""Tasks during training: the model as it is answers them through the plugin's own classes and lmms-eval."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.checkpoint import prepare
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.device_memory import prefix_cache_bytes
from dualfocus_eval.engines.in_process import engine_of
from dualfocus_eval.families import Family
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.model import DualFocusChat
from dualfocus_eval.harness.session import Session
from dualfocus_eval.harness.task_index import task_manager
from dualfocus_eval.training.tuning import Evaluation

__all__ = ["TaskEvaluator", "check_tasks"]


def check_tasks(names: Sequence[str]) -> None:
    """Raise ``UserError`` for a task that there is none of."""
    known = task_manager(names).all_tasks
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"evaluate: no task is called {', '.join(unknown)} (`lmms-eval --tasks list` names all)")


@dataclass(frozen=True, eq=False)
class TaskEvaluator:
    """Answers the plan's tasks under the settings that the recipe gives the finished checkpoint."""

    plan: Evaluation
    model_args: Mapping[str, Any]
    """As for ``--model dualfocus``; their checkpoint is that of the processor, its weights are not loaded."""
    processor: Any
    family: Family
    traces: Path

    def __call__(self, model: Any, accelerator: Accelerator) -> dict[str, float]:
        """Scores by task and metric on the main process, nothing on the others. The model is left as it was."""
        from lmms_eval.evaluator import simple_evaluate

        config = resolve({**self.model_args, "trace_dir": str(self.traces)})
        assert isinstance(config.engine, EngineConfig)  # the recipe's own checkpoint
        with _undisturbed(model):
            bare = model.get_base_model() if hasattr(model, "peft_config") else model
            checkpoint = prepare(bare, self.processor, self.family, "training")
            cache = prefix_cache_bytes(config.engine, bare)
            session = Session(config, accelerator, engine_of(checkpoint, config.engine.max_conversations, cache))
            found = simple_evaluate(
                _InTraining(session, accelerator), tasks=list(self.plan.tasks), limit=self.plan.limit, log_samples=False
            )
        results = found["results"] if found else {}
        return {
            f"{task}/{metric.removesuffix(',none')}": float(value)
            for task, metrics in results.items()
            for metric, value in metrics.items()
            if isinstance(value, (int, float)) and "stderr" not in metric
        }


class _InTraining(DualFocusChat):
    def __init__(self, session: Session, accelerator: Accelerator) -> None:
        self._begin(session, accelerator)


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """What is trained stays so, and random numbers go on as without the evaluation, which sets seeds of its own."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state, numpy_state = random.getstate(), np.random.get_state()
    was_training = model.training
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        for parameter in trained:
            parameter.requires_grad = True
        model.train(was_training)
