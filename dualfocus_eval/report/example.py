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
from dualfocus_eval.engines.base import perplexity_of
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.selection import label_of
from dualfocus_eval.report.answer_figure import BOX, Caption, Panel, answer_figure, png_bytes
from dualfocus_eval.traces.record import Decision, Pathway

__all__ = ["draw_example"]

_PATHWAYS: tuple[Pathway, Pathway] = ("macro", "micro")
_RIGHT, _WRONG = "#1a7f37", "#b42318"


def draw_example(run: Run, key: str, path: Path) -> None:
    """Write the picture of one question as a PNG to ``path``. Raises ValueError for one without two candidates."""
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
    images = (image, view(image), view(image.crop((crop.left, crop.top, crop.right, crop.bottom))))
    captions = [Caption("box", format_box(box, image_size=image.size), "dashed: the sub-region", BOX, 13)]
    for pathway, nll in zip(_PATHWAYS, deciding_costs(row, rule), strict=True):
        selected = " (selected)" if row["selected"] == pathway else ""
        color = _RIGHT if row[f"score_{pathway}"] > 0 else _WRONG
        shown = shorten(row[f"{pathway}_text"].strip(), 22, placeholder=" ...") or "(nothing)"
        captions.append(Caption(f"{pathway} answer{selected}", shown, _perplexity(nll, row, pathway, rule), color))
    titles = (
        f"image, {image.width} x {image.height} pixels",
        f"what the macro pass sees, {_size(images[1])}",
        f"what the micro pass adds, {_size(images[2])}",
    )
    panels = [Panel(*panel) for panel in zip(images, titles, captions, strict=True)]
    footer = f"right answer: {doc['answer']}.  {_decided(row, rule)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(answer_figure(doc["question"], panels, footer, box=box, crop=crop)))


def _perplexity(nll: float, row: pd.Series, pathway: Pathway, rule: str) -> str:
    """What decided; where that was no perplexity, the one in the candidate's own pathway, so named."""
    if not math.isnan(nll):
        return f"PPL {perplexity_of(nll):.3f} (rule {rule})"
    return f"PPL {perplexity_of(row[f'{pathway}_nll']):.3f} (own pathway)"


def _decided(row: pd.Series, rule: str) -> str:
    if row["decision"] == Decision.NLL:
        compared = label_of(rule)
        return f"Rule {rule}: the lower perplexity is selected" + (f" ({compared})." if compared else ".")
    return f"Selected, not by perplexity: {decision_words(row)}."


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
