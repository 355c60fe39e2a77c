"""A question of a finished run as a reader sees it: image, box, both answers, what was selected, what was right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dualfocus_eval.analysis.categories import categories_of
from dualfocus_eval.analysis.choices import decision_words
from dualfocus_eval.analysis.outcomes import Outcome, outcomes_of
from dualfocus_eval.analysis.rows import cost_columns
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.scoring import document_reader
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import json_number
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import perplexity_of
from dualfocus_eval.harness.structure import Structure, read_structure
from dualfocus_eval.method.question import AnswerKind
from dualfocus_eval.method.stems import StemAndOptions, stem_of
from dualfocus_eval.traces.record import Decision

__all__ = ["Candidate", "Card", "CardImage", "cards_of"]


@dataclass(frozen=True)
class CardImage:
    """The question's first image, as the model saw it."""

    digest: str
    """`traces.record.ImageInfo.digest`, which names its file in the trace folder (`traces.pictures.picture_file`)."""
    width: int
    """Pixels of the original."""
    height: int


@dataclass(frozen=True)
class Candidate:
    """One of the two answers."""

    text: str
    nll: float
    """Mean negative log-probability per token in its own pathway, in nats; NaN where it is not known."""
    cost: float
    """What the rule that decided compares, in nats; NaN where something else decided."""
    score: float
    """How right the task finds it, 1 for right; NaN where it is not known."""

    @property
    def perplexity(self) -> float:
        """Of ``nll``."""
        return perplexity_of(self.nll)


@dataclass(frozen=True)
class Card:
    """One question of a run. What the run does not tell is None, NaN or empty."""

    task: str
    doc_id: int
    key: str
    """``TASK/DOC_ID``."""
    question: str
    """The bare question, without options and format hints."""
    prompt: str
    """The task's full text, which the macro pathway was asked."""
    options: tuple[str, ...]
    """Their texts in the order of the letters A, B, C, ..."""
    target: str
    """The right answer, as the task writes it."""
    answer: str
    """The text that lmms-eval scored."""
    image: CardImage | None
    box: Box | None
    """Fractions of the image, before the crop rule."""
    crop: Crop | None
    """The sub-region, in pixels of the image."""
    truth: Box | None
    """Where the answer is to be seen, by the data set, as fractions of the image."""
    box_text: str | None
    """What the model wrote when it was asked for the box."""
    grounding: str | None
    """``ok`` or another word for a usable box, or why there is none."""
    macro: Candidate | None
    micro: Candidate | None
    selected: str | None
    """``macro`` or ``micro``."""
    decision: str
    """What decided, in words; empty where the trace does not say."""
    rule: str | None
    """The selection rule of the run; None without one."""
    fallback: str | None
    """Why there is no micro answer though there was to be one."""
    skipped_micro: bool
    """The macro answer was confident enough (``adaptive_nll``)."""
    error: str | None
    """The kind of failure of a question without an answer."""
    categories: tuple[str, ...]
    score: float
    """Of the selected answer, lmms-eval's own."""
    outcome: Outcome

    @property
    def gap(self) -> float:
        """How clearly the rule decided: the difference of the two costs, in nats; NaN where something else did."""
        return abs(self.macro.cost - self.micro.cost) if self.macro and self.micro else math.nan

    @property
    def sub_region(self) -> Box | None:
        """``crop`` as fractions of the image; None without one."""
        return self.crop.within((self.image.width, self.image.height)) if self.crop and self.image else None

    @property
    def crop_outside(self) -> bool:
        """Whether the sub-region leaves the image, which no crop of ours does: the files are damaged."""
        if self.crop is None or self.image is None:
            return False
        left, top, right, bottom = self.crop.left, self.crop.top, self.crop.right, self.crop.bottom
        return not (0 <= left < right <= self.image.width and 0 <= top < bottom <= self.image.height)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN is None, and the perplexities are added."""
        found: dict[str, Any] = _plain(vars(self))
        for name in ("macro", "micro"):
            if candidate := getattr(self, name):
                found[name]["perplexity"] = json_number(candidate.perplexity)
        return found | {"gap": json_number(self.gap)}


_COLUMNS = (
    "task", "doc_id", "key", "question", "target", "answer", "cluster", "width", "height", "box_text", "outcome",
    "selected", "decision", "fallback", "skipped_micro", "failed", "score_selected",
    *(f"{name}_{part}" for name in ("macro", "micro") for part in ("text", "nll")), "score_macro", "score_micro",
    *(f"{name}_{corner}" for name in ("box", "truth") for corner in ("x1", "y1", "x2", "y2")),
    *(f"crop_{side}" for side in ("left", "top", "right", "bottom")),
)  # fmt: skip
"""What a card takes from a run's answers, beside the costs that the rule compared."""


def cards_of(run: Run) -> Iterator[Card]:
    """A card of each question, in the order of ``run.answers``."""
    rule = run.settings.get("selection") if run.settings.get("strategy") == "dualfocus" else None
    for task in run.task_names:
        rows = run.of(task)
        texts = _texts(run, task, rows)
        shown = rows[[name for name in (*_COLUMNS, *cost_columns(rule or "")) if name in rows]]
        columns = (shown.to_dict("list"), texts, categories_of(run, task), outcomes_of(rows).tolist())
        yield from _cards(*columns, rule)


def _cards(
    columns: Mapping[str, Sequence[Any]],
    texts: Sequence[StemAndOptions],
    categories: Sequence[tuple[str, ...]],
    outcomes: Sequence[str],
    rule: str | None,
) -> Iterator[Card]:
    names = list(columns)
    for place, cells in enumerate(zip(*columns.values(), strict=True)):
        row = dict(zip(names, cells, strict=True))
        known = row["width"] > 0 and row["height"] > 0
        image = CardImage(row["cluster"], int(row["width"]), int(row["height"])) if known else None
        yield Card(
            task=row["task"],
            doc_id=row["doc_id"],
            key=row["key"],
            question=texts[place].stem,
            prompt=row["question"],
            options=texts[place].options,
            target=row["target"],
            answer=row["answer"],
            image=image,
            box=_box(row, "box"),
            crop=_crop(row),
            truth=_box(row, "truth"),
            box_text=_known(row["box_text"]),
            grounding=_known(row["outcome"]),
            macro=_candidate(row, "macro", rule),
            micro=_candidate(row, "micro", rule),
            selected=_known(row["selected"]),
            decision=decision_words(row),
            rule=rule,
            fallback=_known(row["fallback"]),
            skipped_micro=bool(row["skipped_micro"]),
            error=_known(row["failed"]),
            categories=categories[place],
            score=row["score_selected"],
            outcome=Outcome(outcomes[place]),
        )


def _texts(run: Run, task: str, rows: pd.DataFrame) -> list[StemAndOptions]:
    """Bare question and options: as the task's YAML says where they stand, or else read out of the prompt."""
    declared = _structure(run, task)
    listed = not declared.options and declared.answer in (None, AnswerKind.OPTION)  # by the prompt, if there are any
    read = document_reader(run.tasks[task]) if task in run.tasks and (declared.stem or declared.options) else None
    found = []
    for doc_id, prompt in zip(rows["doc_id"], rows["question"], strict=True):
        try:
            doc = read(doc_id) if read else {}
            stem, options = declared.stem_of(doc), declared.options_of(doc)
        except Exception:  # the task's data here may be others than the run's, or gone: the prompt is what was asked
            stem, options = None, ()
        parsed = stem_of(prompt) if stem is None or listed else StemAndOptions("", ())
        question = (parsed.stem if stem is None else stem) or prompt
        found.append(StemAndOptions(question, options or (parsed.options if listed else ())))
    return found


def _structure(run: Run, task: str) -> Structure:
    try:
        return read_structure(run.results.get("configs", {}).get(task, {}).get("metadata"), task)
    except UserError:  # written by another version
        return Structure()


def _known(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _box(row: Mapping[str, Any], name: str) -> Box | None:
    corners = [float(row[f"{name}_{corner}"]) for corner in ("x1", "y1", "x2", "y2")]
    return None if any(map(math.isnan, corners)) else Box(*corners)


def _crop(row: Mapping[str, Any]) -> Crop | None:
    sides = [row[f"crop_{side}"] for side in ("left", "top", "right", "bottom")]
    return None if any(map(math.isnan, sides)) else Crop(*map(int, sides))


def _candidate(row: Mapping[str, Any], name: str, rule: str | None) -> Candidate | None:
    text = row[f"{name}_text"]
    if not isinstance(text, str):
        return None
    decided = rule is not None and row["decision"] == Decision.NLL
    column = cost_columns(rule or "")[0 if name == "macro" else 1]
    cost = row.get(column, math.nan) if decided else math.nan
    return Candidate(text, row[f"{name}_nll"], cost, row[f"score_{name}"])


def _plain(value: Any) -> Any:
    """``dataclasses.asdict`` for JSON, in a fifth of its time: it copies every text and number."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in (value if isinstance(value, dict) else vars(value)).items()}
