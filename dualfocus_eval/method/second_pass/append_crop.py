"""``append_crop``: the crop follows what was said so far, as the paper has it.

After a grounding response: ``[image, Q1, A1, crop, Q2]``, which continues the conversation in which the model named the
region, so that its encoded prefix is reused. Where the region was found without words there is no such conversation:
``[image, crop, Q2]`` in one user turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.engines.base import Conversation
from dualfocus_eval.method.prompts import micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.second_pass.layout import continued

__all__ = ["APPEND_CROP"]


@dataclass(frozen=True)
class _AppendCrop:
    name: str = "append_crop"
    version: int = 1

    def conversation(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return continued(question, zoom, (zoom.picture,), micro_prompt(question, prompt_set))

    def scoring_context(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return continued(question, zoom, (zoom.picture,), scoring_prompt(question, prompt_set))


APPEND_CROP = _AppendCrop()
