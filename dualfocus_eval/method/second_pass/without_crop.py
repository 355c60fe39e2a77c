"""Controls of `append_crop`: the same second round, with the same words, in which the region is not to be seen.

``no_crop`` has no picture in the crop's place, ``blank_crop`` a grey one of its size. What they gain over the macro
answer is the second question's doing; what `append_crop` gains over them is the crop's.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from dualfocus_eval.engines.base import Conversation, Picture
from dualfocus_eval.method.prompts import micro_prompt, scoring_prompt
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.second_pass.layout import continued

__all__ = ["BLANK_CROP", "NO_CROP"]

_GREY = (127, 127, 127)


@dataclass(frozen=True)
class _WithoutCrop:
    name: str
    blank: bool
    version: int = 1

    def conversation(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return continued(question, zoom, self._shown(zoom), micro_prompt(question, prompt_set))

    def scoring_context(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return continued(question, zoom, self._shown(zoom), scoring_prompt(question, prompt_set))

    def _shown(self, zoom: Zoom) -> tuple[Picture, ...]:
        return (Picture(Image.new("RGB", zoom.crop.size, _GREY)),) if self.blank else ()


NO_CROP = _WithoutCrop("no_crop", blank=False)
BLANK_CROP = _WithoutCrop("blank_crop", blank=True)
