"""Second passes that ask the task's own question in one turn, for models that were never trained on a second round.

``joint`` shows the image and the crop, as ViCrop does (Zhang et al., ICLR 2025), ``crop_only`` the crop alone. With
``strategy=micro`` no macro answer is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.engines.base import Conversation, Picture
from dualfocus_eval.method.prompts import scoring_question
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.second_pass.layout import one_turn

__all__ = ["CROP_ONLY", "JOINT"]


@dataclass(frozen=True)
class _SingleQuestion:
    name: str
    with_image: bool
    version: int = 1

    def conversation(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return one_turn(question, self._shown(question, zoom), question.prompt)

    def scoring_context(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return one_turn(question, self._shown(question, zoom), scoring_question(question))

    def _shown(self, question: Question, zoom: Zoom) -> tuple[Picture, ...]:
        return (*question.images, zoom.picture) if self.with_image else (zoom.picture,)


JOINT = _SingleQuestion("joint", with_image=True)
CROP_ONLY = _SingleQuestion("crop_only", with_image=False)
