"""An optional judge for answers that no rule can read: any OpenAI-compatible model, through lmms-eval's own client.

``$DUALFOCUS_JUDGE`` names the model; lmms-eval's ``OPENAI_API_URL`` and ``OPENAI_API_KEY`` say where it is.
"""

from __future__ import annotations

import functools
import os
from typing import Any

__all__ = ["ask", "judge_model"]

VARIABLE = "DUALFOCUS_JUDGE"


def judge_model() -> str:
    """The judge's name; empty where none is set."""
    return os.environ.get(VARIABLE, "").strip()


def ask(prompt: str) -> str | None:
    """The judge's reply, or None where it gave none; the reason is logged.

    A prompt is asked once per process, so that all metrics of a run rest on the same reply, failures included. This
    module and not a task's ``utils`` remembers them: lmms-eval loads that anew for every function a YAML names.
    """
    return _reply(judge_model(), os.environ.get("OPENAI_API_URL", ""), prompt)


@functools.cache
def _reply(model: str, url: str, prompt: str) -> str | None:
    from lmms_eval.llm_judge import Request
    from loguru import logger

    try:
        reply: str = _server(model, url).evaluate(Request(messages=[{"role": "user", "content": prompt}])).content
    except Exception as error:  # whatever the client raises is counted by the caller; no answer may end a run
        logger.warning(f"the judge {model} did not reply: {type(error).__name__}: {error}")
        return None
    return reply


@functools.cache
def _server(model: str, url: str) -> Any:
    from lmms_eval.llm_judge import ServerConfig, get_server

    # The client below repeats failed requests by itself.
    return get_server("openai", ServerConfig(model_name=model, num_retries=1))
