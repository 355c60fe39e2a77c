"""The table of answers in a run's W&B page: pictures with boxes, crops, both answers and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dualfocus_eval.analysis.cards import Candidate, Card, cards_of
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.escaping import json_number, visible
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.report.kept_pictures import kept_pictures

if TYPE_CHECKING:
    import wandb

__all__ = ["ROWS", "answers_table", "log_answers"]

ROWS = 1_000
"""At most so many questions are in the table, at even distances; W&B's pages get slow with more pictures."""
_CLASSES = {1: "box", 2: "sub-region", 3: "truth"}
_COLUMNS = (
    "key", "image", "crop", "question", "target", "macro", "macro_perplexity", "micro", "micro_perplexity", "selected",
    "decision", "fallback", "score", "outcome",
)  # fmt: skip


def log_answers(run: Run) -> Sequence[str]:
    """Log the table ``dualfocus/answers`` to the active W&B run, and say what of the run is not in it.

    Raises what W&B raises.
    """
    import wandb

    kept, count = kept_pictures(run), len(run.answers)
    wandb.log({"dualfocus/answers": answers_table(run, kept.files)})
    left_out = (f"the table of answers has {ROWS:,} of {count:,} questions",) if count > ROWS else ()
    return (*left_out, *kept.notes)


def answers_table(run: Run, pictures: Mapping[str, Path]) -> wandb.Table:
    """A row per question; ``pictures`` are the kept ones by `cards.CardImage.digest`."""
    import wandb

    count = len(run.answers)
    chosen = {place * count // ROWS for place in range(ROWS)} if count > ROWS else range(count)
    table = wandb.Table(columns=list(_COLUMNS))
    for place, card in enumerate(cards_of(run)):
        if place in chosen:
            table.add_data(*_row(card, pictures.get(card.image.digest) if card.image else None))
    return table


def _row(card: Card, picture: Path | None) -> tuple[Any, ...]:
    return (
        card.key,
        *_pictures(card, picture),
        *map(visible, (card.question, card.target)),
        *_answer(card.macro),
        *_answer(card.micro),
        card.selected,
        card.decision,
        card.fallback,
        json_number(card.score),
        str(card.outcome),
    )


def _answer(candidate: Candidate | None) -> tuple[str | None, float | None]:
    return (visible(candidate.text), json_number(candidate.perplexity)) if candidate else (None, None)


def _pictures(card: Card, path: Path | None) -> tuple[Any, Any]:
    """The picture with its boxes, and the sub-region of it; None for what is not there or cannot be opened."""
    import wandb

    try:
        picture = Image.open(path).convert("RGB") if path else None
    except (OSError, ValueError, Image.DecompressionBombError):
        picture = None
    if picture is None or card.image is None:
        return None, None
    region = card.sub_region
    found = {1: card.box, 2: region, 3: card.truth}
    data = [_position(number, box) for number, box in found.items() if box]
    boxes = {"boxes": {"box_data": data, "class_labels": _CLASSES}} if data else None
    cut = region.clipped() if region else None
    crop = None
    if cut and cut.area > 0:
        width, height = picture.size
        sides = (cut.x1 * width, cut.y1 * height, cut.x2 * width, cut.y2 * height)
        left, top, right, bottom = map(round, sides)
        crop = wandb.Image(picture.crop((left, top, max(right, left + 1), max(bottom, top + 1))))
    return wandb.Image(picture, boxes=boxes), crop


def _position(number: int, box: Box) -> Mapping[str, Any]:
    """A box in W&B's format, in fractions."""
    position = {"minX": box.x1, "minY": box.y1, "maxX": box.x2, "maxY": box.y2}
    return {"position": position, "class_id": number, "box_caption": _CLASSES[number]}
