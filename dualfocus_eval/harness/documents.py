"""One question of a task by its name, as an evaluation asks it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.harness.questions import chat_question
from dualfocus_eval.harness.requests import read_chat
from dualfocus_eval.harness.task_index import task_manager
from dualfocus_eval.method.question import Question

__all__ = ["question_named"]


def question_named(key: str) -> Question:
    """The question ``TASK/NUMBER`` of a trace: the task's document of that number, counted from 0.

    Raises ``UserError`` for what names no question, and where the task or its data cannot be loaded.
    """
    name, slash, number = key.rpartition("/")
    if not slash or not number.isascii() or not number.isdigit():
        raise UserError(f"{key!r} names no question: write TASK/NUMBER, as in the report, such as df_scenes_mini/0")
    with _quietly():
        from lmms_eval.tasks import get_task_dict

        try:
            task = get_task_dict([name], task_manager([name]), "chat")[name]
            documents = len(task.eval_docs_no_media)
        except Exception as error:  # whatever a task's loading raises is about its YAML or its data
            why = f"task {name} cannot be loaded: {first_line(error)}"
            raise UserError(f"{why}; `dualfocus tasks` lists those here") from error
        if task.OUTPUT_TYPE != "generate_until":
            raise UserError(
                f"{key}: task {name} scores given answers (output_type {task.OUTPUT_TYPE}) and asks for none: ask its "
                "question with IMAGE, --question and --options"
            )
        if int(number) >= documents:
            raise UserError(f"{key}: task {name} has {documents:,} questions, counted from 0")
        task.build_all_requests(limit=1, offset=int(number))
    request = read_chat(task.instances[0])
    return chat_question(request, task.dataset[request.split], None)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without lmms-eval's log and the progress bars of one question."""
    from loguru import logger

    logger.disable("lmms_eval")
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.enable("lmms_eval")
