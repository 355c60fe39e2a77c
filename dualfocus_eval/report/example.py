"""A picture of one question: the image with the box, what the model sees of it, both answers and their perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from PIL import Image

from dualfocus_eval.method.boxes import Box, format_box
from dualfocus_eval.method.crops import Crop
from dualfocus_eval.method.selection import Pathway, Rule, released_nll
from dualfocus_eval.method.trace import Trace
from dualfocus_eval.report.answers import RunAnswers, ScoredAnswer, rule_choice
from dualfocus_eval.report.effect import SCENES

__all__ = ["choose_example", "draw_example"]

_PATHWAYS: tuple[Pathway, Pathway] = ("macro", "micro")
_INK, _MUTED, _BOX, _RIGHT, _WRONG = "#1b1f24", "#6a737d", "#d6336c", "#1a7f37", "#b42318"


def choose_example(run: RunAnswers) -> ScoredAnswer | None:
    """The first question, by its id, where zooming paid: macro wrong, micro right and selected.

    Without one: micro right and macro wrong whatever was selected, then any with two candidates; None without any.
    """
    selected = rule_choice(run.record["settings"]["selection"])
    answers = sorted(run.of(SCENES), key=lambda answer: str(answer.doc["question_id"]))
    wanted: Sequence[Callable[[ScoredAnswer], bool]] = (
        lambda answer: answer.score("micro") > answer.score("macro") and answer.score(selected) > 0,
        lambda answer: answer.score("micro") > answer.score("macro"),
        lambda answer: answer.trace.micro is not None,
    )
    for condition in wanted:
        for answer in answers:
            if answer.trace.micro is not None and condition(answer):
                return answer
    return None


def draw_example(run: RunAnswers, answer: ScoredAnswer, path: Path) -> None:
    """Write the picture as a PNG to ``path``; the question needs two candidates."""
    from matplotlib.figure import Figure

    trace = answer.trace
    grounding, macro, micro = trace.grounding, trace.macro, trace.micro
    if not (grounding and grounding.box and grounding.crop and macro and micro):
        raise ValueError(f"{trace.key} has no micro candidate, so there is nothing to compare")
    task, rule = run.tasks[answer.task], run.record["settings"]["selection"]
    image: Image.Image = task.doc_to_visual(task.eval_docs[answer.doc_id])[0]
    crop, view = grounding.crop, _encoder_view(run.record["engine"])
    panels = (image, view(image), view(image.crop((crop.left, crop.top, crop.right, crop.bottom))))
    texts, perplexities = (macro.text, micro.text), _perplexities(trace, rule)

    figure = Figure(figsize=(11, 5.4), dpi=110, facecolor="white")
    widths = [panel.width / panel.height for panel in panels]
    grid = {"left": 0.03, "right": 0.97, "top": 0.82, "bottom": 0.25, "wspace": 0.1, "width_ratios": widths}
    axes = figure.subplots(1, 3, gridspec_kw=grid)
    question = shorten(answer.doc["question"], 80, placeholder=" ...")
    figure.text(0.03, 0.94, question, parse_math=False, fontsize=18, weight="bold", color=_INK, va="center")
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(np.asarray(panel), interpolation="nearest")
        axis.set(xticks=[], yticks=[], anchor="NW")
        axis.spines[:].set_edgecolor("#d0d7de")
    _outline(axes[0], grounding.box, crop, image.size)
    _above(axes[0], f"image, {image.width} x {image.height} pixels")
    _above(axes[1], f"what the macro pass sees, {_size(panels[1])}")
    _above(axes[2], f"what the micro pass adds, {_size(panels[2])}")
    _below(axes[0], "box", format_box(grounding.box, image_size=image.size), _BOX, "dashed: the sub-region", 13)
    for axis, pathway, text, perplexity in zip(axes[1:], _PATHWAYS, texts, perplexities, strict=True):
        selected = " (selected)" if trace.selected == pathway else ""
        color = _RIGHT if answer.score(pathway) > 0 else _WRONG
        shown = shorten(text.strip(), 22, placeholder=" ...") or "(nothing)"
        _below(axis, f"{pathway} answer{selected}", shown, color, f"PPL {perplexity:.2f}", 18)
    figure.text(
        0.97, 0.03,
        f"right answer: {answer.doc['answer']}.  Rule {rule}: the answer with the lower perplexity is selected.",
        parse_math=False, fontsize=9.5, color=_MUTED, ha="right", va="center",
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _perplexities(trace: Trace, rule: Rule) -> tuple[float, float]:
    """Of the macro and the micro candidate, as ``rule`` compares them; of their own contexts where none was needed."""
    assert trace.macro
    assert trace.micro
    assert trace.grounding
    if rule == "own" or trace.scores is None:
        return math.exp(trace.macro.nll), math.exp(trace.micro.nll)
    if rule == "micro":
        return math.exp(trace.scores.macro_nll), math.exp(trace.scores.micro_nll)
    a1 = trace.grounding.a1.logprobs
    return math.exp(released_nll(a1, trace.scores.macro)), math.exp(released_nll(a1, trace.scores.micro))


def _outline(axis: Any, box: Box, crop: Crop, size: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    width, height = size
    corner, sides = (box.x1 * width, box.y1 * height), ((box.x2 - box.x1) * width, (box.y2 - box.y1) * height)
    axis.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=_BOX, linewidth=2.5))
    axis.add_patch(
        Rectangle((crop.left, crop.top), *crop.size, fill=False, edgecolor=_BOX, linewidth=1.2, linestyle=(0, (4, 3)))
    )


def _above(axis: Any, text: str) -> None:
    axis.set_title(text, fontsize=10, color=_MUTED, loc="left")


def _below(axis: Any, label: str, value: str, color: str, remark: str, size: int) -> None:
    place = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "baseline",
        "annotation_clip": False,
        "parse_math": False,
    }
    axis.annotate(label, (0, 0), xytext=(0, -16), fontsize=10, color=_MUTED, **place)
    axis.annotate(value, (0, 0), xytext=(0, -38), fontsize=size, weight="bold", color=color, **place)
    axis.annotate(remark, (0, 0), xytext=(0, -57), fontsize=11, color=_INK, **place)


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"


def _encoder_view(engine: dict[str, Any]) -> Callable[[Image.Image], Image.Image]:
    """An image as it comes out of the checkpoint's image processor; as it is where the processor makes no image."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(engine["pretrained"], revision=engine["revision"])

    def view(image: Image.Image) -> Image.Image:
        pixels = processor(images=[image], return_tensors="np")["pixel_values"]
        if engine["image_aspect"] != "checkpoint" or pixels.ndim != 4 or pixels.shape[:2] != (1, 3):
            return image
        unit = pixels[0].transpose(1, 2, 0) * processor.image_std + processor.image_mean  # (height, width, 3)
        return Image.fromarray(np.clip(np.rint(unit * 255), 0, 255).astype(np.uint8))

    return view
