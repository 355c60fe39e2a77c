"""How lmms-eval builds a task's requests, adapted where it would lose what a flag asks for."""

from __future__ import annotations

import functools
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.flags import refuse_flags

__all__ = ["adapt_building", "flags_of_task"]

MODEL = "dualfocus"
_OUTPUT_TYPES = ("generate_until", "loglikelihood", "multiple_choice")


def flags_of_task(task: Any) -> dict[str, Any]:
    """What a task was asked for, by the names of lmms-eval's command line; from Python only what it was told."""
    command_line = getattr(task, "args", None)
    given = vars(command_line) if command_line else {}
    asked_for: dict[str, Any] = getattr(task, "asked_for", {})
    return asked_for | {name: value for name, value in given.items() if value is not None}


def _refuse_output_type(task: Any) -> None:
    if task.OUTPUT_TYPE not in _OUTPUT_TYPES:
        raise UserError(
            f"task {task.config.task}: output_type {task.OUTPUT_TYPE} is not supported by dualfocus, whose two passes "
            f"answer one question; choose a task with one of: {', '.join(_OUTPUT_TYPES)}"
        )


def adapt_building(task: Any) -> None:
    """Adapt ``Task.build_all_requests``; repeated calls are free.

    A task remembers what it was asked for as ``asked_for``: the model gets no other word of it when lmms-eval is called
    from Python. Requests are never taken from lmms-eval's cache, which keeps them without their functions: every
    question of every model fails on them. For our model refused flags end the run here, before they end it in an
    ``AttributeError``, and what it applies itself, system instruction and chat template, stays out of the contexts.
    """
    build = task.build_all_requests
    if hasattr(build, "with_dualfocus"):
        return

    @functools.wraps(build)
    def build_all_requests(self: Any, **asked: Any) -> None:
        self.asked_for = dict(asked)
        if self.config.doc_to_visual is not None:  # a text task's questions come with their examples
            self.asked_for["num_fewshot"] = self.config.num_fewshot
        asked |= {"cache_requests": False, "rewrite_requests_cache": False}
        if MODEL in (getattr(getattr(self, "args", None), "model", None), getattr(self, "model_name", None)):
            refuse_flags(flags_of_task(self))
            _refuse_output_type(self)
            asked |= {"system_instruction": None, "apply_chat_template": False, "chat_template": None}
        build(self, **asked)

    build_all_requests.with_dualfocus = True  # type: ignore[attr-defined]
    task.build_all_requests = build_all_requests
