"""One pass and two passes: work and time per question (table 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dualfocus_eval.analysis.rows import PHASES
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.paper.experiment import Runs
from dualfocus_eval.paper.shared import MACRO_ALONE, TWO_PASSES
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.cost import cost_section, totals

__all__ = ["cost_sections", "work_table"]

_COUNTED = ("images_encoded", "tokens_prefilled", "tokens_reused", "decode_steps")


def cost_sections(runs: Runs) -> Sequence[Section]:
    """Table 7: the first pass alone beside both, and where the time of both goes."""
    rows = (("macro alone", runs[MACRO_ALONE.name]), ("two passes", runs[TWO_PASSES.name]))
    text = (
        "Work per question as the engine counted it, and the time of its phases: without model loading, image decoding "
        "and scoring. Times are of the batch size and machine of these runs; the paper's are of one A100. GPU memory "
        "is not recorded by runs: `python -m measurements.gpu` measures it."
    )
    section = Section("single_pass", "One pass and two", text, {"single_pass": work_table(rows)})
    return (section, cost_section(runs[TWO_PASSES.name]))


def work_table(rows: Sequence[tuple[str, Run]]) -> Table:
    """A row for each labelled run: what a question costs, and the ratio of its time to the first row's."""
    spent = [(label, totals(run)) for label, run in rows]
    times = [_per_question(found, sum(found[f"seconds_{phase}"] for phase in PHASES)) for _, found in spent]
    cells: list[tuple[Cell, ...]] = [
        (
            label,
            int(found["questions"]),
            *(Number(_per_question(found, found[counter]), decimals=2) for counter in _COUNTED),
            Number(1000 * time, unit="ms"),
            Number(time / times[0] if times[0] else math.nan, decimals=2),
        )
        for (label, found), time in zip(spent, times, strict=True)
    ]
    header = ("", "questions", *(name.replace("_", " ") for name in _COUNTED), "ms", "time / first row")
    return Table("Per question", header, (tuple(cells),))


def _per_question(found: dict[str, float], total: float) -> float:
    return total / found["questions"] if found["questions"] else math.nan
