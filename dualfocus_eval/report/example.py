"""A picture of one question: the image with the box, what the model sees of it, both answers and their perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from dualfocus_eval.analysis.choices import deciding_costs, decision_words
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.selection import label_of
from dualfocus_eval.traces.record import Decision, Pathway

__all__ = ["draw_example"]

_PATHWAYS: tuple[Pathway, Pathway] = ("macro", "micro")
_INK, _MUTED, _BOX, _RIGHT, _WRONG = "#1b1f24", "#6a737d", "#d6336c", "#1a7f37", "#b42318"


def draw_example(run: Run, key: str, path: Path) -> None:
    """Write the picture of one question as a PNG to ``path``. Raises ValueError for one without two candidates."""
    from matplotlib.figure import Figure

    assert run.record
    row = run.answers[run.answers["key"] == key].iloc[0]
    if math.isnan(row["box_x1"]) or not isinstance(row["macro_text"], str) or not isinstance(row["micro_text"], str):
        raise ValueError(f"{key} has no micro candidate, so there is nothing to compare")
    task, rule = run.tasks[row["task"]], run.settings["selection"]
    doc = task.eval_docs_no_media[int(row["doc_id"])]
    image: Image.Image = task.doc_to_visual(task.eval_docs[int(row["doc_id"])])[0]
    box = Box(*(float(row[f"box_{corner}"]) for corner in ("x1", "y1", "x2", "y2")))
    crop = Crop(*(int(row[f"crop_{side}"]) for side in ("left", "top", "right", "bottom")))
    view = _encoder_view(run.record["engine"])
    panels = (image, view(image), view(image.crop((crop.left, crop.top, crop.right, crop.bottom))))

    figure = Figure(figsize=(11, 5.4), dpi=110, facecolor="white")
    widths = [panel.width / panel.height for panel in panels]
    grid = {"left": 0.03, "right": 0.97, "top": 0.82, "bottom": 0.25, "wspace": 0.1, "width_ratios": widths}
    axes = figure.subplots(1, 3, gridspec_kw=grid)
    question = shorten(doc["question"], 80, placeholder=" ...")
    figure.text(0.03, 0.94, question, parse_math=False, fontsize=18, weight="bold", color=_INK, va="center")
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(np.asarray(panel), interpolation="nearest")
        axis.set(xticks=[], yticks=[], anchor="NW")
        axis.spines[:].set_edgecolor("#d0d7de")
    _outline(axes[0], box, crop, image.size)
    _above(axes[0], f"image, {image.width} x {image.height} pixels")
    _above(axes[1], f"what the macro pass sees, {_size(panels[1])}")
    _above(axes[2], f"what the micro pass adds, {_size(panels[2])}")
    _below(axes[0], "box", format_box(box, image_size=image.size), _BOX, "dashed: the sub-region", 13)
    for axis, pathway, nll in zip(axes[1:], _PATHWAYS, deciding_costs(row, rule), strict=True):
        selected = " (selected)" if row["selected"] == pathway else ""
        color = _RIGHT if row[f"score_{pathway}"] > 0 else _WRONG
        shown = shorten(row[f"{pathway}_text"].strip(), 22, placeholder=" ...") or "(nothing)"
        _below(axis, f"{pathway} answer{selected}", shown, color, _perplexity(nll, row, pathway, rule), 18)
    figure.text(
        0.97, 0.03,
        f"right answer: {doc['answer']}.  {_decided(row, rule)}",
        parse_math=False, fontsize=9.5, color=_MUTED, ha="right", va="center",
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _perplexity(nll: float, row: pd.Series, pathway: Pathway, rule: str) -> str:
    """What decided; where that was no perplexity, the one in the candidate's own pathway, so named."""
    if not math.isnan(nll):
        return f"PPL {math.exp(nll):.3f} (rule {rule})"
    return f"PPL {math.exp(row[f'{pathway}_nll']):.3f} (own pathway)"


def _decided(row: pd.Series, rule: str) -> str:
    if row["decision"] == Decision.NLL:
        compared = label_of(rule)
        return f"Rule {rule}: the lower perplexity is selected" + (f" ({compared})." if compared else ".")
    return f"Selected, not by perplexity: {decision_words(row)}."


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
