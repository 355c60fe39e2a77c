"""``fifth_patch``: the region as one more local patch of the image, as the paper has it for LLaVA-NeXT (table 6).

LLaVA-NeXT shows an image as a thumbnail and up to four local patches. The region, resized to the side of a patch,
follows them in the image's own place, so that there is one image and one question: ``[image with patch, question]``.
The paper says no more than that the sub-region is included as a fifth local patch. Decided here: the task's own
question is asked, since there are no two images to combine, and the newline embedding ends each of the patch's rows, as
it does those of the others. The states of the image are reused up to the patch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dualfocus_eval.engines.base import Conversation, Picture
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.method.grounding.base import GroundingSettings
from dualfocus_eval.method.prompts import scoring_question
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.second_pass.layout import one_turn

__all__ = ["FIFTH_PATCH"]


@dataclass(frozen=True)
class _FifthPatch:
    name: str = "fifth_patch"
    version: int = 1

    def problem(self, engine: RunEngine, settings: GroundingSettings) -> str | None:
        able = ", ".join(family.model_type for family in FAMILIES if family.local_patch is not None)
        if engine.info.engine.startswith("server"):
            return f"a server takes whole images only; use engine=in_process with {able}, or second_pass=joint"
        if engine.family.local_patch is None:
            return (
                f"an image of model_type {engine.family.model_type!r} has no local patches to add one to; it is "
                f"possible with {able}, and second_pass=joint with every model"
            )
        return None

    def conversation(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return one_turn(question, _patched(question, zoom), question.prompt)

    def scoring_context(self, question: Question, zoom: Zoom, prompt_set: str) -> Conversation:
        return one_turn(question, _patched(question, zoom), scoring_question(question))


def _patched(question: Question, zoom: Zoom) -> tuple[Picture, ...]:
    (image,) = question.images
    return (replace(image, patch=zoom.picture),)


FIFTH_PATCH = _FifthPatch()
