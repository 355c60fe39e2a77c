"""Two passes beside, and on top of, a model that sees images as tiles (table 6)."""

from __future__ import annotations

from collections.abc import Sequence

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.paper.comparing import Row, macro_row, row_section
from dualfocus_eval.paper.experiment import Request, Runs, RunSpec
from dualfocus_eval.paper.shared import TWO_PASSES
from dualfocus_eval.paper.single_pass import work_table
from dualfocus_eval.report.section import Section

__all__ = ["high_resolution_runs", "high_resolution_sections"]

_FIFTH_PATCH = RunSpec("fifth_patch", {**TWO_PASSES.settings, "second_pass": "fifth_patch"}, other_model=True)


def high_resolution_runs(request: Request) -> Sequence[RunSpec]:
    """Raises ``UserError`` without a second model."""
    if not request.other_model_args:
        raise UserError(
            "table6 compares the model with a LLaVA-NeXT, and gives that the region as one more patch: name it with "
            "--other_model_args, e.g. --other_model_args pretrained=llava-hf/llava-v1.6-vicuna-7b-hf"
        )
    return (TWO_PASSES, _FIFTH_PATCH)


def high_resolution_sections(runs: Runs) -> Sequence[Section]:
    """Table 6: the high-resolution model alone, the two passes of the other, and the region as a fifth patch."""
    own, tiled = runs[TWO_PASSES.name], runs[_FIFTH_PATCH.name]
    rows = (
        macro_row("high resolution", tiled),
        Row("two passes", own),
        Row("high resolution, region as one more patch", tiled),
    )
    text = (
        "The high-resolution model is the one of --other_model_args. The paper trained it on the data of DualFocus; "
        "a published LLaVA-NeXT was trained on others."
    )
    work = work_table((("two passes", own), ("high resolution, region as one more patch", tiled)))
    section = row_section("High-resolution models", text, rows)
    return (section, Section("work", "Cost", "Of both passes, as the engines counted it.", {"work": work}))
