"""The inspector: a page with a card for every question of a run, or of two runs beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dualfocus_eval.analysis.cards import Card, cards_of
from dualfocus_eval.analysis.outcomes import OUTCOME_WORDS
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.method.selection import label_of
from dualfocus_eval.report.asking_again import asking_again
from dualfocus_eval.report.assets import inlined
from dualfocus_eval.report.inspector_data import Entry, Facet, Index, Range, data_files, rounded, write_data
from dualfocus_eval.report.kept_pictures import KEPT_FOLDER, copy_pictures, kept_pictures
from dualfocus_eval.report.section import Section

__all__ = [
    "Inspector", "card_parts", "inspector_of", "inspector_section", "run_values", "searched",
]  # fmt: skip

PAGE = "inspect.html"
_FOLDER = "inspect"
_STYLES = ("base.css", "inspect.css")
_SCRIPTS = ("inspect-data.js", "inspect-cards.js", "inspect-asking.js", "inspect-filters.js", "inspect.js")


@dataclass(frozen=True)
class Inspector:
    """A page that has yet to be written, and what lies beside it."""

    index: Index
    count: int
    """Questions."""
    entries: Callable[[], Iterable[Entry]]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """The files of the pictures that are there, by digest."""

    @property
    def files(self) -> list[str]:
        """The files of the page, relative to its folder."""
        data = [f"{_FOLDER}/{name}" for name in data_files(self.count)]
        return [PAGE, *data, *(f"{KEPT_FOLDER}/{digest}.jpg" for digest in self.pictures)]

    def write(self, out: Path) -> Path:
        """Write the page below ``out``; it shows its pictures wherever that folder is moved. Raises ``OSError``."""
        (out / _FOLDER).mkdir(parents=True, exist_ok=True)
        write_data(out / _FOLDER, self.index, self.entries())
        copy_pictures(self.pictures, out / KEPT_FOLDER)
        (out / PAGE).write_text(_page(), encoding="utf-8")
        return out / PAGE


def _page() -> str:
    """The page is the same for every run: all that is a run's own lies in the data beside it."""
    style, script = inlined(*_STYLES), inlined(*_SCRIPTS)
    page = (resources.files("dualfocus_eval.report") / PAGE).read_text(encoding="utf-8")
    page = page.replace("@STYLE_SOURCE@", style.source).replace("@SCRIPT_SOURCE@", script.source)
    return page.replace("@STYLE@", style.text).replace("@SCRIPT@", script.text)


def inspector_section(run: Run) -> Section:
    """The way to the inspector's page; empty for a run without answers to single questions."""
    text = "Each question with its image, box and sub-region, both answers, and what was selected and why."
    links = [("Inspect every answer", PAGE)] if len(run.answers) else []
    return Section("inspector", "Every answer", text, links=links)


def inspector_of(run: Run, title: str) -> Inspector:
    """The page of one run."""
    pictures = kept_pictures(run)
    facets = [
        Facet("task", "Task"),
        Facet("outcome", "Outcome", {str(outcome): words for outcome, words in OUTCOME_WORDS.items()}),
        Facet("category", "Category"),
        Facet("fallback", "Fallback"),
        Facet("decision", "Decided by"),
    ]
    ranges = [Range("gap", "Confidence gap, nats"), Range("area", "Box area, % of the image", 100)]
    index = Index(
        title=title,
        about=(),
        notes=pictures.notes,
        facets=facets,
        ranges=ranges,
        runs=[run_values(run)],
        pictures=KEPT_FOLDER if pictures.files else None,
        report="index.html",
    )
    return Inspector(index, len(run.answers), lambda: _entries(run, pictures.files), pictures.files)


def run_values(run: Run, name: str = "") -> dict[str, Any]:
    """What the cards of a run have in common: what it is called, how to ask again, what its rule compares, and by which
    settings it reads boxes."""
    rule = run.settings.get("selection")
    reading = [f"{name}={run.settings[name]}" for name in ("box_convention", "box_frame") if name in run.settings]
    compared = label_of(rule) if rule else None
    return {"name": name, "ask": asking_again(run), "compared": compared, "reading": ", ".join(reading)}


def _entries(run: Run, pictures: Mapping[str, Path]) -> Iterator[Entry]:
    for card in cards_of(run):
        question, side = card_parts(card, pictures)
        yield Entry(
            task=card.task,
            doc_id=card.doc_id,
            facets=(card.task, str(card.outcome), card.categories, card.fallback, card.decision or None),
            ranges=(card.gap, card.box.clipped().area if card.box else float("nan")),
            texts=searched(card),
            card=question | {"sides": [side]},
        )


def searched(card: Card) -> list[str]:
    """The texts of a card that the search looks through."""
    answers = [candidate.text for candidate in (card.macro, card.micro) if candidate] or [card.answer]
    return [card.question, *card.options, card.target, *answers]


def card_parts(card: Card, pictures: Mapping[str, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a question is, whoever answers it, and what the run made of it; what is not known has no key."""
    values = rounded(card.to_dict())
    question = {name: values.pop(name) for name in _QUESTION if name in values}
    if card.prompt == card.question:
        question.pop("prompt", None)
    if card.image:
        question["image"]["kept"] = card.image.digest in pictures
    for name in ("macro", "micro"):
        if name in values:
            values[name].setdefault("text", "")  # an answer without any text is one, too
            values.pop("answer", None)
    if not card.skipped_micro:
        values.pop("skipped_micro")
    if card.crop_outside:
        values["crop_outside"] = True
    return question, values


_QUESTION = ("task", "doc_id", "key", "question", "prompt", "options", "target", "image", "truth", "categories")
