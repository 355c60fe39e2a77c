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
from dualfocus_eval.report.sections.cost import cost_section, of_servers, totals

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
    found = [(label, _per_question(run)) for label, run in rows]
    first = found[0][1]["seconds"]
    cells: list[tuple[Cell, ...]] = [
        (
            label,
            int(spent["questions"]),
            *(Number(spent[counter], decimals=2) for counter in _COUNTED),
            Number(1000 * spent["seconds"], unit="ms"),
            Number(spent["seconds"] / first if first else math.nan, decimals=2),
        )
        for label, spent in found
    ]
    header = ("", "questions", *(name.replace("_", " ") for name in _COUNTED), "ms", "time / first row")
    notes = ("Servers count neither images nor time.",) if any(of_servers(run) for _, run in rows) else ()
    return Table("Per question", header, (tuple(cells),), notes)


def _per_question(run: Run) -> dict[str, float]:
    """Means of what was counted and of the seconds of all phases; NaN where nothing was."""
    spent = totals(run)
    questions = spent["questions"] or math.nan
    found = {name: spent[name] / questions for name in _COUNTED}
    found["seconds"] = sum(spent[f"seconds_{phase}"] for phase in PHASES) / questions
    unknown = ("images_encoded", "seconds") if of_servers(run) else ()
    return {**found, **dict.fromkeys(unknown, math.nan), "questions": spent["questions"]}
