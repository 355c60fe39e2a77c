"""Questions to look at: where the zoom helped, where it hurt, and what the model saw."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from dualfocus_eval.analysis.choices import deciding_costs, decision_words
from dualfocus_eval.analysis.outcomes import Outcome, outcomes_of
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.escaping import figure_text, visible
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.images import prepare_picture, strict_decoding
from dualfocus_eval.method.selection import label_of
from dualfocus_eval.report.section import Drawing, Section

__all__ = ["question_section"]

_EACH = 6
_PICTURES = 3
_LONGEST = 200


def question_section(run: Run) -> Section:
    """The first questions of each kind, in the order of the run; pictures of some where images can be opened."""
    text = (
        "The first questions of this run in which the selection gained against macro alone, lost against it, or "
        f"missed a better candidate. Texts are cut after {_LONGEST} characters."
    )
    if "micro" not in run.choices:
        return Section("questions", "Questions to look at", text)
    kinds = {name: rows for name, rows in _kinds(run.answers).items() if len(rows)}
    if not kinds:
        return Section("questions", "Questions to look at", text)
    rule = run.settings["selection"]
    sections = tuple(
        tuple(_row(name, row, rule) for _, row in rows.head(_EACH).iterrows()) for name, rows in kinds.items()
    )
    names = ("kind", "question", "prompt", "right", "macro", "micro")
    header = (*names, "decided by", "PPL macro", "PPL micro", "selected")
    counts = "; ".join(f"{name}: {len(rows):,}" for name, rows in kinds.items())
    label = label_of(rule) or "a quantity unknown here, since the rule is not installed"
    compared = (
        f"Rule {rule}: the answer with the lower perplexity is selected; on a tie, the micro answer. PPL is that "
        f"of {label}. It is omitted if something else decided. In multiple choice, the texts of the options that "
        "the answers name are compared, if option_scoring says so."
    )
    table = Table("Questions", header, sections, (f"In all: {counts}.", compared))
    shown, unopened = _pictures(run, kinds)
    figures = {}
    if shown:
        caption = "Left: the image with the box and, dashed, the sub-region. Right: the sub-region."
        figures["questions"] = Drawing(caption, lambda: _draw(shown))
    if unopened:
        text += f" {unopened} images could not be opened and are not shown."
    return Section("questions", "Questions to look at", text, {"questions": table}, figures)


def shortened(text: Any) -> str:
    """The text without its surplus blanks, `visible` and cut; how much was cut off is said."""
    plain = visible(" ".join(text.split())) if isinstance(text, str) else ""
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]} ... ({len(plain):,} characters)"


def _kinds(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    outcomes = outcomes_of(rows)
    return {str(kind): rows[outcomes == kind] for kind in (Outcome.GAINED, Outcome.LOST, Outcome.MISSED)}


def _row(kind: str, row: pd.Series, rule: str) -> tuple[Cell, ...]:
    texts = [shortened(row[name]) for name in ("question", "target", "macro_text", "micro_text")]
    perplexities = [Number(float(np.exp(nll)), decimals=3) for nll in deciding_costs(row, rule)]
    return (kind, row["key"], *texts, decision_words(row), *perplexities, row["selected"])


def _pictures(run: Run, kinds: dict[str, pd.DataFrame]) -> tuple[list[tuple[str, pd.Series, Any]], int]:
    """(kind, row, image) of the first questions of each kind whose image opens, and how many did not."""
    found, unopened = [], 0
    for kind, rows in kinds.items():
        for _, row in rows[rows["crop_left"].notna()].head(_PICTURES).iterrows():
            task = run.tasks.get(row["task"])
            try:
                with strict_decoding():
                    doc = task.eval_docs[int(row["doc_id"])]  # type: ignore[union-attr]
                    picture = prepare_picture(task.doc_to_visual(doc)[0])  # type: ignore[union-attr]
            except Exception:  # a task's own code over files that may be gone: the picture is left out and counted
                picture = None
            if isinstance(picture, Picture):
                found.append((kind, row, picture.pixels))
            else:
                unopened += 1
    return found, unopened


def _draw(shown: Sequence[tuple[str, pd.Series, Any]]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = _PICTURES
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.9 * rows), dpi=110, facecolor="white", layout="constrained")
    for part, (kind, row, image) in zip(figure.subfigures(rows, columns, squeeze=False).flat, shown, strict=False):
        left, right = part.subplots(1, 2)
        left.imshow(image)
        width, height = image.size
        x1, y1, x2, y2 = row["box_x1"] * width, row["box_y1"] * height, row["box_x2"] * width, row["box_y2"] * height
        crop = [int(row[f"crop_{side}"]) for side in ("left", "top", "right", "bottom")]
        outline: dict[str, Any] = {"fill": False, "edgecolor": "#d6336c"}
        left.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, linewidth=1.6, **outline))
        size = (crop[2] - crop[0], crop[3] - crop[1])
        left.add_patch(Rectangle((crop[0], crop[1]), *size, linewidth=0.9, linestyle=(0, (4, 3)), **outline))
        right.imshow(image.crop(crop))
        for axis in (left, right):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_edgecolor("#d0d7de")
        question = _brief(str(row["question"]).partition("\n")[0], 56)
        part.suptitle(f"{kind}: {question}", fontsize=8, parse_math=False)
        answers = [_brief(row[f"{name}_text"]) for name in ("macro", "micro")]
        left.set_xlabel(f"macro: {answers[0]}", fontsize=8, parse_math=False)
        right.set_xlabel(f"micro: {answers[1]}   (right: {_brief(row['target'])})", fontsize=8, parse_math=False)
    return figure


def _brief(text: Any, width: int = 18) -> str:
    return shorten(figure_text(str(text)), width, placeholder=" ...")
