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

    The function raises RuntimeError for an answer that is not as long as it may be: the class logs what goes wrong, and
    gives an empty one.
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
        for question, result in zip(asked, results, strict=True):
            if not result.token_counts or result.token_counts.output_tokens != question.max_new_tokens:
                raise RuntimeError(f"llava_hf generated {result.token_counts}, not {question.max_new_tokens} tokens")
        return [result.text for result in results]

    return run
