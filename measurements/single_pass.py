"""lmms-eval's own ``llava_hf``, which makes a single pass, over a model that is in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from dualfocus_eval.method.question import Question
from measurements.sized_models import build

__all__ = ["single_pass"]


def single_pass(model: Any, processor: Any, device: str) -> Callable[[Sequence[Question]], list[str]]:
    """A function from questions to the texts of their answers. The class takes one question at a time.

    The function raises RuntimeError where the class logged an error and gave an empty answer.
    """
    from lmms_eval.api.instance import Instance
    from lmms_eval.models.chat.llava_hf import LlavaHf

    with tempfile.TemporaryDirectory() as folder:
        # It loads a checkpoint by itself; a tiny one, whose weights are then replaced by ours.
        build("llava", "tiny")[0].save_pretrained(folder)
        processor.save_pretrained(folder)
        lm = LlavaHf(pretrained=folder, device=device, device_map=device, dtype=model.dtype)
    lm._model, lm._config = model, model.config
    lm._rank = 1  # rank 0 shows a progress bar for every call

    def messages(question: Question) -> list[dict[str, Any]]:
        (picture,) = question.images
        content = [{"type": "image", "url": picture.pixels}, {"type": "text", "text": question.prompt}]
        return [{"role": "user", "content": content}]

    def run(asked: Sequence[Question]) -> list[str]:
        lm.task_dict = {"performance": {"test": asked}}
        requests = [
            Instance(
                request_type="generate_until",
                arguments=(
                    question.prompt,
                    messages,
                    {"max_new_tokens": question.max_new_tokens},
                    number,
                    "performance",
                    "test",
                ),
                idx=0,
                metadata={"task": "performance", "doc_id": number, "repeats": 1},
            )
            for number, question in enumerate(asked)
        ]
        results = lm.generate_until(requests)
        if any(result.token_counts is None for result in results):
            raise RuntimeError("llava_hf could not generate; its log has the reason")
        return [result.text for result in results]

    return run
