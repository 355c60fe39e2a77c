"""An experiment's page: its tables and figures, what the paper says, and the runs that they were made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Table
from dualfocus_eval.paper.experiment import Experiment, Runs
from dualfocus_eval.paper.planning import PlannedRun
from dualfocus_eval.report.page import write_report
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.published import published_part
from dualfocus_eval.report.writing import run_title

__all__ = ["experiment_sections", "heading", "write_experiment"]


def heading(experiment: Experiment) -> str:
    """``Table 5: Shifted boxes``."""
    kind = experiment.name.rstrip("0123456789")
    return f"{kind.capitalize()} {experiment.name.removeprefix(kind)}: {experiment.title}"


def experiment_sections(experiment: Experiment, runs: Runs, plans: Sequence[PlannedRun]) -> list[Section]:
    """What was measured here, what the paper says, and from what.

    Where the runs have nothing to show, as no question whose selection gained or lost, a table says so.
    """
    measured = [section for section in experiment.sections(runs) if not section.empty]
    nothing = Table(experiment.title, ("",), ((("These runs have nothing to show here.",),),))
    found = measured or [Section("nothing", experiment.title, "", {"nothing": nothing})]
    others = (published_part(experiment.name), _run_section(runs, plans))
    return [*found, *(section for section in others if not section.empty)]


def write_experiment(experiment: Experiment, sections: Sequence[Section], runs: Runs, out: Path) -> Path:
    """Write the page below ``out`` and return its index.html. Raises ``UserError`` where that is not possible."""
    faults = [f"{name}: {fault}" for name, run in runs.items() for fault in run.faults if not fault.harmless]
    return write_report(out, heading(experiment), sections, faults)


def _run_section(runs: Runs, plans: Sequence[PlannedRun]) -> Section:
    known = [plan for plan in plans if plan.name in runs]
    rows = tuple((plan.name, run_title(runs[plan.name]), _limit(runs[plan.name]), str(plan.folder)) for plan in known)
    minis = any(task.endswith("_mini") for run in runs.values() for task in run.task_names)
    embedded = "Tasks named _mini are small embedded sets, whose numbers cannot be compared with the paper's."
    table = Table("Runs", ("run", "model", "limit", "folder"), (rows,), (embedded,) if minis else ())
    commands = Table("Commands", ("run", "command"), (tuple((plan.name, plan.command) for plan in known),))
    text = "What the tables were made of. The commands are in tables/commands.csv."
    return Section("runs", "Runs", text, {"runs": table}, data={"commands": commands})


def _limit(run: Run) -> str:
    config: Mapping[str, object] = run.results.get("config") or {}
    return str(config.get("limit") or "")
