"""``dualfocus reproduce``: a table or figure of the paper by its name, from the runs that it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.cli.model_args import plain_arguments
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.paper import NAMES

if TYPE_CHECKING:
    from dualfocus_eval.analysis.runs import Run
    from dualfocus_eval.paper.experiment import Experiment, Preparation, Request
    from dualfocus_eval.paper.planning import PlannedRun

__all__ = ["main"]

WHOLE, INCOMPLETE = 0, 1

_EPILOG = """Without further options, the embedded checkpoint answers small embedded sets. docs/reproduce.md says what
the full size needs. Runs that are finished are not made again, and experiments share them.

exit status: 0 done; 1 done, but questions failed, files of a run are damaged, or a training is missing; 2 the command
is wrong or lacks something; 3 an error in dualfocus-eval itself."""


def main(argv: Sequence[str]) -> int:
    """Make the runs that are missing, print the tables and write the page; the exit status is that of the epilog.

    Raises ``UserError`` where a run cannot be planned: an argument that the experiment sets itself, or one that it
    lacks.
    """
    chosen = _parser().parse_args(argv)
    request = _request(chosen)
    from dualfocus_eval.paper.experiments import EXPERIMENTS
    from dualfocus_eval.paper.planning import plan_runs

    experiment = EXPERIMENTS[chosen.name]
    preparations = experiment.preparations(request)
    plans = plan_runs(experiment, request)
    if chosen.dry_run:
        _print_commands(preparations, plans)
        return WHOLE
    for missing in (step for step in preparations if not step.done):
        _say(f"not trained yet: {missing.command} ({missing.cost})")
    runs, status = _carry_out(plans)
    if status > INCOMPLETE:
        return status
    if runs:
        _report(experiment, runs, plans, request.out / chosen.name)
    faults = any(not fault.harmless for run in runs.values() for fault in run.faults)
    whole = not faults and all(step.done for step in preparations)
    return max(status, WHOLE if whole else INCOMPLETE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus reproduce",
        description="Make a table or figure of the paper: carry out the runs that it needs, print its tables, and "
        "write a page with its figures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", choices=NAMES, metavar="NAME", help=f"one of: {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for runs and pages (default: the user's cache)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands of the runs, and of trainings, instead"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions of each task")
    parser.add_argument(
        "--model_args", default="", metavar="NAME=VALUE,...", help="the model (default: the embedded checkpoint)"
    )
    parser.add_argument("--tasks", default="", metavar="NAMES", help="tasks and groups in place of the embedded sets")
    parser.add_argument(
        "--other_model_args",
        default="",
        metavar="NAME=VALUE,...",
        help="a second model: a LLaVA-NeXT for table6, any for table8",
    )
    parser.add_argument("--detector", default="", metavar="ID", help="folder or hub id of table11's object detector")
    parser.add_argument(
        "--batch_size", type=int, default=16, metavar="N", help="questions answered together (default: 16)"
    )
    return parser


def _request(chosen: argparse.Namespace) -> Request:
    given = plain_arguments("--model_args", chosen.model_args)
    plain_arguments("--other_model_args", chosen.other_model_args)
    from dualfocus_eval.paper.experiment import Request

    return Request(
        out=chosen.out or _default_output(),
        model_args=chosen.model_args,
        recipe=given.get("recipe", ""),
        other_model_args=chosen.other_model_args,
        detector=chosen.detector,
        tasks=chosen.tasks,
        limit=chosen.limit,
        batch_size=chosen.batch_size,
    )


def _default_output() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("dualfocus-eval") / "reproduce"


def _print_commands(preparations: Sequence[Preparation], plans: Sequence[PlannedRun]) -> None:
    for step in preparations:
        print(f"# {step.cost}{'; done' if step.done else ''}")
        print(f"# {step.command}" if step.done else step.command)
    for plan in plans:
        print(plan.command)


def _carry_out(plans: Sequence[PlannedRun]) -> tuple[dict[str, Run], int]:
    """The runs by name, and the worst status of those that were made now; after one of 2 or more none is begun."""
    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.cli.eval import main as evaluate
    from dualfocus_eval.paper.planning import finished_run

    runs: dict[str, Run] = {}
    worst = WHOLE
    for plan in (plan for plan in plans if plan.trained):
        if run := finished_run(plan):
            _say(f"finished before: {plan.folder}")
        else:
            _say(plan.command)
            worst = max(worst, evaluate(plan.arguments))
            if worst > INCOMPLETE:
                break
            run = read_run(plan.folder)
        runs[plan.name] = run
    return runs, worst


def _say(text: str) -> None:
    print(one_line(f"dualfocus reproduce: {text}"), file=sys.stderr)


def _report(experiment: Experiment, runs: dict[str, Run], plans: Sequence[PlannedRun], out: Path) -> None:
    from rich.console import Console

    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.paper.writing import experiment_sections, heading, write_experiment

    console = Console()
    sections = experiment_sections(experiment, runs, plans)
    index = write_experiment(experiment, sections, runs, out)
    print_line(heading(experiment), console)
    for section in sections:
        for table in section.tables.values():
            print_table(table, console)
    print_line(f"page: {index}", console)
