"""What `Model.ask` returns: both answers, the region, which answer was selected and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from PIL import Image

from dualfocus_eval.common.escaping import json_number, visible
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Completion, Failure, perplexity_of
from dualfocus_eval.method.crops import crop_picture
from dualfocus_eval.method.letters import named_option
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.selection import costs_of, label_of
from dualfocus_eval.method.selection.base import SelectionRule
from dualfocus_eval.traces.record import Decision, Pathway, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Answer"]

_FALLBACK_WORDS: Mapping[str, str] = {
    "no_image": "the question has no image",
    "several_images": "the question has several images",
    "video": "the question is about a video",
    "empty_stem": "the question is empty",
    "crop_too_small": "the sub-region is less than 2 pixels wide or high",
    "grounding_failed": "the region could not be chosen",
    "micro_failed": "the micro pathway failed",
    "scoring_failed": "what the selection rule compares is not known",
    "not_calibrated": "the calibrated choice was fitted on no such answers",
    "unparsable": "the model's reply holds no box",
    "other_convention": "the model's box has its numbers in another order than box_convention says",
    "not_finite": "the model's box has a number that is not finite",
    "inverted": "the model's box is inverted",
    "degenerate": "the model's box has no area",
    "out_of_range": "the model's box lies outside the image",
    "no_truth": "the data set has no box for it",
    "no_phrase": "the question names nothing that a detector could look for",
    "nothing_detected": "the detector found nothing",
    "grid_finer_than_image": "the image is too small for the grid of tiles",
}


@dataclass(frozen=True)
class Answer:
    """The answer to one question about one image; read-only.

    In a notebook it shows its `figure`. A question of `Model.ask_batch` that failed has a ``failure`` and no answers.
    """

    question: Question
    """What was asked, with the image as the model saw it."""
    trace: Trace
    """The whole record, as an evaluation stores it: tokens, log-probabilities, what each rule selects."""
    rule: str
    """The selection rule of the model's settings."""
    source: str = "image"
    """The path of the image; ``image`` for one that was not a file."""
    fitted: SelectionRule | None = None
    """The calibrated choice that ``rule`` names, if it does."""

    @property
    def text(self) -> str:
        """The selected answer; empty for a question that failed."""
        return self.trace.text

    @property
    def option(self) -> str | None:
        """The text of the option that the selected answer names; None without options or where it names none."""
        index = named_option(self.text, self.question.options) if self.question.options else None
        return None if index is None else self.question.options[index]

    @property
    def macro(self) -> Completion | None:
        """The answer from the whole image: ``text``, ``nll`` (mean, nats per token), ``perplexity``; None without."""
        return self.trace.macro

    @property
    def micro(self) -> Completion | None:
        """The answer from image and sub-region; None where there was no second pass (see `why`)."""
        return self.trace.micro

    @property
    def selected(self) -> Pathway | None:
        """``macro`` or ``micro``; None for a question that failed."""
        return self.trace.selected

    @property
    def box(self) -> Box | None:
        """The box that the model named, as fractions of the image's width and height: x1, y1, x2, y2."""
        return self.trace.grounding.box if self.trace.grounding else None

    @property
    def box_pixels(self) -> tuple[int, int, int, int] | None:
        """`box` in whole pixels of the image: left, top, right, bottom."""
        if not self.box or not self.image:
            return None
        width, height = self.image.size
        box = self.box
        return round(box.x1 * width), round(box.y1 * height), round(box.x2 * width), round(box.y2 * height)

    @property
    def region(self) -> Crop | None:
        """The sub-region of the second pass, in pixels of the image: the box made square, enlarged and clipped."""
        return self.trace.grounding.crop if self.trace.grounding else None

    @property
    def image(self) -> Image.Image | None:
        """The image as the model saw it: upright, RGB; None where it could not be opened."""
        return self.question.images[0].pixels if self.question.images else None

    @property
    def crop(self) -> Image.Image | None:
        """The pixels of `region`."""
        return crop_picture(self.question.images[0], self.region).pixels if self.region else None

    @property
    def compared(self) -> tuple[float, float] | None:
        """Perplexities of the macro and the micro answer that the rule compared; None where something else decided.

        Only under the rule that compares each answer in its own pathway are they those of `macro` and `micro`.
        """
        costs = costs_of(self.trace, self.fitted).get(self.rule) if self.trace.decision == Decision.NLL else None
        return (perplexity_of(costs[0]), perplexity_of(costs[1])) if costs else None

    @property
    def fallback(self) -> str | None:
        """Why there is only a macro answer although two passes were to be made: a short name, as reports count it."""
        return str(self.trace.fallback) if self.trace.fallback else None

    @property
    def failure(self) -> Failure | None:
        """Why the question has no answer: ``kind`` and ``message``."""
        return self.trace.error

    @property
    def why(self) -> str:
        """What selected the answer, in words."""
        if self.failure:
            return f"there is no answer: {self.failure.message}"
        match self.trace.decision:
            case Decision.NLL:
                return f"the lower perplexity under the rule {self.rule} ({label_of(self.rule)})"
            case Decision.AGREEMENT:
                return "both pathways give the same answer"
            case Decision.ONLY_VALID_OPTION:
                return f"only the {self.selected} answer names an option"
            case Decision.NO_VALID_OPTION:
                return "neither answer names an option, so the macro answer is kept"
            case Decision.NO_SCORES:
                return f"{_FALLBACK_WORDS[self.fallback or 'scoring_failed']}{self._cause}, so the macro answer is kept"
        return self._why_alone()

    def _why_alone(self) -> str:
        if self.trace.skipped_micro:
            return "the macro answer is confident enough (adaptive_nll), so there was no second pass"
        if self.fallback:
            words = _FALLBACK_WORDS.get(self.fallback, self.fallback)
            return f"{words}{self._cause}, so there is only the macro answer"
        return f"only the {self.selected} pathway was asked for"

    @property
    def _cause(self) -> str:
        return f": {self.trace.cause.message}" if self.trace.cause else ""

    def to_dict(self) -> dict[str, Any]:
        """All of it but the pixels, as plain values for JSON. Numbers are null where there are none or not finite."""
        compared = self.compared or (None, None)
        region, failure = self.region, self.failure
        return {
            "image": self.source,
            "question": self.question.stem,
            "options": list(self.question.options),
            "answer": self.text,
            "option": self.option,
            "selected": self.selected,
            "why": self.why,
            "rule": self.rule,
            "macro": _candidate(self.macro, compared[0]),
            "micro": _candidate(self.micro, compared[1]),
            "box": [*self.box.corners] if self.box else None,
            "box_pixels": list(self.box_pixels) if self.box_pixels else None,
            "region": [region.left, region.top, region.right, region.bottom] if region else None,
            "fallback": self.fallback,
            "failure": {"kind": failure.kind, "message": failure.message} if failure else None,
        }

    def figure(self) -> Figure:
        """The image with the box and the sub-region, the sub-region's pixels, and both answers with their perplexity.

        A matplotlib Figure that is not shown by itself; ``figure().savefig("answer.png")`` writes it. Raises
        ``ValueError`` for a question whose image could not be opened.
        """
        from dualfocus_eval.report.answer_figure import Caption, Panel, answer_figure

        if self.image is None:
            raise ValueError(f"there is nothing to draw: {self.why}")
        place = ", box {}, {} to {}, {}".format(*self.box_pixels) if self.box_pixels else ""
        title = f"image, {self.image.width} x {self.image.height} pixels{place}"
        panels = [Panel(self.image, title, Caption(*self._caption("macro")))]
        if self.crop:
            title = f"sub-region, {self.crop.width} x {self.crop.height} pixels"
            panels.append(Panel(self.crop, title, Caption(*self._caption("micro"))))
        footer = f"{self.selected} selected: {self.why}"
        figure: Figure = answer_figure(self.question.stem, panels, footer, box=self.box, crop=self.region)
        return figure

    def _caption(self, pathway: Pathway) -> tuple[str, str, str]:
        candidate = self.macro if pathway == "macro" else self.micro
        if candidate is None:
            return f"{pathway} answer", "(none)", ""
        label = f"{pathway} answer (selected)" if self.selected == pathway else f"{pathway} answer"
        remark = f"PPL {candidate.perplexity:.3f}"
        compared = self.compared[pathway == "micro"] if self.compared else candidate.perplexity
        if compared != candidate.perplexity:
            remark += f", compared {compared:.3f}"
        return label, shorten(candidate.text, 30, placeholder=" ...") or "(nothing)", remark

    def _repr_png_(self) -> bytes | None:
        """The figure, for notebooks; nothing for a question whose image could not be opened."""
        from dualfocus_eval.report.answer_figure import png_bytes

        return png_bytes(self.figure()) if self.image else None

    def __str__(self) -> str:
        return visible(self.text)

    def __repr__(self) -> str:
        return visible(f"Answer({self.text!r}, selected={self.selected!r}, why={self.why!r}, image={self.source!r})")


def _candidate(completion: Completion | None, compared: float | None) -> dict[str, Any] | None:
    if completion is None:
        return None
    numbers = {"nll": completion.nll, "perplexity": completion.perplexity, "compared_perplexity": compared}
    return {"text": completion.text, **{name: json_number(number) for name, number in numbers.items()}}
