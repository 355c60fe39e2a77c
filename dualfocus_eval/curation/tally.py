"""What became of every question: counts by reason, with ids, as JSON, Markdown and a figure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualfocus_eval.common.files import replacing
from dualfocus_eval.common.tables import Table, to_markdown
from dualfocus_eval.curation.elements import Unreadable
from dualfocus_eval.curation.filtering import Excluded
from dualfocus_eval.curation.reasons import EXCLUSIONS, FAULTS, Reason
from dualfocus_eval.curation.release import Release
from dualfocus_eval.curation.samples import Sample
from dualfocus_eval.curation.settings import CurationSettings

__all__ = ["PAPER", "Tally", "funnel_table", "paper_table", "write_report"]

PAPER = {"samples": 143_978, "images": 7_825}
"""Of the paper's own curation (appendix D)."""
EXAMPLES = 20
"""Ids listed per reason; excluded.parquet has all."""
LISTED_FAULTS = 1000
REPORT, PAGE, FIGURE = "report.json", "report.md", "funnel.png"
_INK, _MUTED, _LEFT, _CUT, _FAULT = "#1f2328", "#59636e", "#2f6fb3", "#d8dee4", "#c4442f"


class Tally:
    """Counts, filled row by row."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.faults: list[Unreadable] = list(release.faults)
        self.read = 0
        self.kept: Counter[str] = Counter()
        """By where the box comes from."""
        self.excluded: Counter[Reason] = Counter()
        self.examples: dict[Reason, list[int | None]] = {}
        self.ambiguous: Counter[str] = Counter()
        """The names that were not unique, lower-cased."""
        self._images: set[int] = set()

    def add(self, image_id: int | None, row: Sample | Excluded) -> None:
        """Count one question."""
        self.read += 1
        if isinstance(row, Sample):
            self.kept[row.box_from] += 1
            self._images.add(row.image_id)
            return
        self.excluded[row.reason] += 1
        examples = self.examples.setdefault(row.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(row.qa_id)
        if row.reason is Reason.AMBIGUOUS:
            self.ambiguous[row.detail.casefold()] += 1

    @property
    def samples(self) -> int:
        """How many questions were kept."""
        return self.kept.total()

    @property
    def images(self) -> int:
        """How many images the samples are about."""
        return len(self._images)

    @property
    def unreadable(self) -> int:
        """How much of the input was damaged or missing; what the filter leaves out is not counted."""
        return len(self.faults) + sum(self.excluded[reason] for reason in FAULTS)


def funnel_table(tally: Tally) -> Table:
    """Questions left after each reason, in the order in which they are looked for."""
    left = tally.read
    rows = [("read", "", f"{left:,}", _share(left, tally.read))]
    for reason in _met(tally):
        left -= tally.excluded[reason]
        rows.append((reason.value, f"{tally.excluded[reason]:,}", f"{left:,}", _share(left, tally.read)))
    kept = ("kept", "", f"{tally.samples:,}", _share(tally.samples, tally.read))
    return Table("Questions", ("reason", "left out", "remain", "remain %"), (tuple(rows), (kept,)))


def paper_table(tally: Tally) -> Table:
    """Ours beside the paper's."""
    return Table(
        title="Samples",
        header=("curation", "samples", "images", "samples per image"),
        sections=(
            (
                _amounts("this run", tally.samples, tally.images),
                _amounts("the paper, appendix D", PAPER["samples"], PAPER["images"]),
            ),
        ),
    )


def write_report(tally: Tally, settings: CurationSettings, out: Path) -> None:
    """Write report.json, report.md and funnel.png. Raises ``OSError``."""
    _draw(tally, out / FIGURE)
    _write(out / PAGE, _page(tally, settings))
    _write(out / REPORT, json.dumps(_record(tally, settings), indent=2, ensure_ascii=False) + "\n")


def _record(tally: Tally, settings: CurationSettings) -> dict[str, Any]:
    return {
        "settings": asdict(settings),
        "files": {
            index.path.name: {"bytes": index.path.stat().st_size, "elements": len(index)}
            for index in tally.release.lists.values()
        },
        "files_missing": list(tally.release.missing),
        "read": tally.read,
        "kept": {"samples": tally.samples, "images": tally.images, "box_from": dict(sorted(tally.kept.items()))},
        "paper": PAPER,
        "excluded": [
            {
                "reason": reason.value,
                "meaning": EXCLUSIONS[reason],
                "fault": reason in FAULTS,
                "questions": tally.excluded[reason],
                "first_ids": tally.examples.get(reason, []),
            }
            for reason in Reason
        ],
        "ambiguous_names": dict(_most(tally.ambiguous, 100)),
        "faults": len(tally.faults),
        "first_faults": [asdict(fault) for fault in tally.faults[:LISTED_FAULTS]],
    }


def _page(tally: Tally, settings: CurationSettings) -> str:
    reasons = [
        f"- **{reason.value}**: {EXCLUSIONS[reason]}. First ids: {_ids(tally.examples[reason])}"
        for reason in _met(tally)
    ]
    knobs = ", ".join(f"{name} {value}" for name, value in asdict(settings).items())
    sources = ", ".join(f"{count:,} from {name}" for name, count in sorted(tally.kept.items()))
    names = ", ".join(f"{name or '(no name)'} ({count:,})" for name, count in _most(tally.ambiguous, 20))
    parts = [
        "# Curation of Visual Genome",
        f"Settings: {knobs}. Boxes: {sources or 'none'}.",
        to_markdown(paper_table(tally)),
        f"![Questions left after each reason]({FIGURE})",
        to_markdown(funnel_table(tally)),
        "\n".join([*reasons, "", "All ids are in excluded.parquet."]),
    ]
    if names:
        parts.append(f"Names that were most often ambiguous: {names}.")
    if tally.release.missing:
        parts.append(f"Files that were not there: {', '.join(tally.release.missing)}.")
    if tally.faults:
        parts.append(
            "\n".join(["Could not be read:", "", *(f"- {f.where}: {f.reason}" for f in tally.faults[:EXAMPLES])])
        )
    return "\n\n".join(parts) + "\n"


def _draw(tally: Tally, path: Path) -> None:
    """Bars of what is left after each reason, with what it took."""
    from matplotlib.figure import Figure

    met = _met(tally)
    names = ["read", *(reason.value.replace("_", " ") for reason in met)]
    taken = [0, *(tally.excluded[reason] for reason in met)]
    left = [tally.read - sum(taken[: place + 1]) for place in range(len(taken))]
    figure = Figure(figsize=(9, 1.3 + 0.42 * len(names)), dpi=120, facecolor="white", layout="constrained")
    axis = figure.subplots()
    colors = [_CUT, *(_FAULT if reason in FAULTS else _CUT for reason in met)]
    axis.barh(names, left, color=_LEFT, height=0.66)
    axis.barh(names, taken, left=left, color=colors, height=0.66)
    for place, (rest, gone) in enumerate(zip(left, taken, strict=True)):
        text = f" {rest:,}" + (f"  ($-${gone:,})" if gone else "")
        axis.text(rest + gone, place, text, va="center", color=_INK, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, max(1, tally.read) * 1.22)
    axis.set_title(
        f"{tally.samples:,} of {tally.read:,} questions kept, on {tally.images:,} images",
        loc="left", color=_INK, fontsize=12, weight="bold",
    )  # fmt: skip
    axis.set_xlabel(
        "questions left (blue); left out by the filter (grey) or unreadable (red)", color=_MUTED, fontsize=9
    )
    axis.tick_params(left=False, colors=_MUTED, labelsize=9)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.spines[["top", "right", "left"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _met(tally: Tally) -> Sequence[Reason]:
    return [reason for reason in Reason if tally.excluded[reason]]


def _most(counter: Counter[str], number: int) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda entry: (-entry[1], entry[0]))[:number]


def _ids(examples: Sequence[int | None]) -> str:
    return ", ".join("(none)" if qa_id is None else str(qa_id) for qa_id in examples)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else ""


def _amounts(name: str, samples: int, images: int) -> tuple[str, ...]:
    return name, f"{samples:,}", f"{images:,}", f"{samples / images:.1f}" if images else ""


def _write(target: Path, text: str) -> None:
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")
