"""Other regions than the model's own box: shifted boxes (table 5) and those of a detector (table 11)."""

from __future__ import annotations

from collections.abc import Sequence

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.paper.comparing import Row, macro_row, row_section
from dualfocus_eval.paper.experiment import Request, Runs, RunSpec
from dualfocus_eval.paper.shared import TWO_PASSES
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.boxes import box_section

__all__ = ["detector_runs", "detector_sections", "shift_sections", "shifted_runs"]

_SHIFTS = (10, 25, 150)
"""Pixels, as in table 5."""


def _shifted(pixels: int) -> RunSpec:
    return RunSpec(f"shifted_{pixels}", {**TWO_PASSES.settings, "grounding": "shifted", "jitter": str(pixels)})


def shifted_runs(request: Request) -> Sequence[RunSpec]:
    return (TWO_PASSES, *map(_shifted, _SHIFTS))


def shift_sections(runs: Runs) -> Sequence[Section]:
    """Table 5: what the selected answers score when the region is beside what the model named."""
    own = runs[TWO_PASSES.name]
    rows = [Row("two passes", own), macro_row("macro", own)]
    rows += [Row(f"shifted by {pixels} pixels", runs[_shifted(pixels).name]) for pixels in _SHIFTS]
    text = (
        "The model's box is moved along both axes by so many pixels of the image, in a direction drawn for each "
        "question, and stops at the border. The paper permutes boxes by so many pixels and does not say how."
    )
    return (row_section("Shifted boxes", text, rows),)


def _detector(request: Request) -> RunSpec:
    return RunSpec("detector", {**TWO_PASSES.settings, "grounding": "detector", "detector": request.detector})


def detector_runs(request: Request) -> Sequence[RunSpec]:
    """Raises ``UserError`` without a detector."""
    if not request.detector:
        raise UserError(
            "table11 replaces the model's boxes by those of an object detector: name one with --detector, a folder or "
            "hub id of GroundingDINO or OWLv2, e.g. --detector IDEA-Research/grounding-dino-base"
        )
    return (TWO_PASSES, _detector(request))


def detector_sections(runs: Runs) -> Sequence[Section]:
    """Table 11: macro, the model's own regions, and the detector's."""
    own, detected = runs[TWO_PASSES.name], runs["detector"]
    rows = (macro_row("macro", own), Row("two passes, the model's boxes", own), Row("two passes, detector", detected))
    text = "The region is the smallest box that holds what the detector finds of the question's phrases."
    return (row_section("Regions of a detector", text, rows), box_section(detected))
