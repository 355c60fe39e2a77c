"""``dualfocus sweep``: several ways to look again beside one baseline, in one command and one table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualfocus_eval.cli.model_args import parse_arguments
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.files import check_writable
from dualfocus_eval.common.registry import Registry
from dualfocus_eval.harness.arguments import check, resolve
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.settings import Settings

if TYPE_CHECKING:
    from dualfocus_eval.analysis.runs import Run
    from dualfocus_eval.engines.base import Counters
    from dualfocus_eval.harness.sweeping import Sweep, Variant

__all__ = ["main"]

_EPILOG = """All other options are lmms-eval's own (`lmms-eval eval --help`), e.g. --gen_kwargs or --include_path.

exit status: 0 every setting answered every question; 1 a setting could not be run, or questions failed (the last lines
say which and why); 2 the command is wrong; 3 the baseline or a setting stopped before it was scored."""
_OWN = ("grounding", "second_pass", "trace_dir")
"""Model arguments that the sweep sets itself."""
_FLAGS = ("--model", "--output_path", "--log_samples", "--config")
"""Flags of lmms-eval that the sweep sets itself, or has no use for."""
_REFERENCE = "text_box + append_crop"
"""The setting that the others are controls of, if it is there; else the first one."""


def main(argv: Sequence[str]) -> int:
    """Run the settings, print the tables and write the page; the exit status is what the epilog of the help says."""
    chosen, rest = _parser().parse_known_args(argv)
    sweep, refused = _sweep(chosen, rest)
    from dualfocus_eval.harness.sweeping import MACRO, run_sweep

    outcomes, done = run_sweep(sweep)
    sys.stdout.flush()
    problems = {**refused, **{name: "; ".join(found.remarks) for name, found in outcomes.items() if found.status}}
    made = [variant for variant in sweep.variants if variant.name in outcomes and outcomes[variant.name].status < 2]
    notes = {name: "; ".join(found.remarks) for name, found in outcomes.items() if found.remarks and not found.status}
    if outcomes[MACRO.name].status < 2:
        _report(sweep, made, problems, notes, done)
    for name, why in {**problems, **notes}.items():
        print(one_line(f"dualfocus sweep: {name}: {why}"), file=sys.stderr)
    broken = any(outcome.status > 2 for outcome in outcomes.values())
    return 3 if broken else 1 if problems else 0


def _sweep(chosen: argparse.Namespace, rest: Sequence[str]) -> tuple[Sweep, dict[str, str]]:
    """What is to be run, and why some of the settings cannot be. Raises ``UserError`` where nothing can."""
    from dualfocus_eval.harness.sweeping import Sweep, variants_of

    for flag in (part.partition("=")[0] for part in rest):
        if flag in _FLAGS:
            raise UserError(f"{flag}: a sweep runs --model dualfocus and writes to --out; leave the flag out")
    groundings, passes = _names(GROUNDING, chosen.grounding), _names(SECOND_PASSES, chosen.second_pass)
    given = _model_args(chosen.model_args)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            "a sweep is one process: for several devices use device_map=auto, or engine=server with several servers"
        )
    if "," in str(chosen.out):
        raise UserError(f"--out {chosen.out}: a comma would end a model argument; choose another folder")
    rule = _one_rule(given)
    variants, refused = _allowed(variants_of(groundings, passes), given)
    if not variants:
        raise UserError("; ".join(f"{name}: {why}" for name, why in refused.items()))
    try:
        check_writable(chosen.out)
    except OSError as error:
        raise UserError(
            f"--out {chosen.out} cannot be made or written: {error.strerror}; name another folder"
        ) from None
    forwarded = ["--tasks", chosen.tasks, "--batch_size", str(chosen.batch_size), *rest]
    forwarded += ["--limit", chosen.limit] if chosen.limit is not None else []
    model_args = ",".join(filter(None, [chosen.model_args, rule]))
    return Sweep(forwarded, model_args, given.get("strategy"), variants, chosen.out), refused


def _names(known: Registry[Any], listed: str) -> list[str]:
    """The names in a list with commas. Raises ``UserError`` for one that is not ``known``, and where there is none."""
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not names:
        raise UserError(f"no {known.what} is named; choose of {', '.join(known.items)}")
    for name in names:
        known[name.partition(":")[0]]
    return names


def _model_args(text: str) -> dict[str, Any]:
    given = parse_arguments("--model_args", text)
    for name in _OWN:
        if name in given:
            flag = f"name it with --{name}" if name != "trace_dir" else "traces are below --out"
            raise UserError(f"--model_args: a sweep sets {name} itself: {flag}")
    if given.get("strategy") == "macro":
        raise UserError(
            "--model_args: strategy=macro is the baseline of every sweep and looks at no region: leave it out, or pass "
            "strategy=micro"
        )
    return given


def _one_rule(given: Mapping[str, Any]) -> str:
    """The model argument that has one rule decide in every setting; empty where one does.

    A checkpoint's own calibrated choice was fitted on one setting: it would decide there alone.
    """
    config = resolve(given)
    if config.calibration is None or config.sources["selection"] != "checkpoint":
        return ""
    rule = f"selection={Settings.selection}"
    why = "the checkpoint's own calibrated choice was fitted on one setting"
    print(one_line(f"dualfocus sweep: {rule} in every setting: {why}"), file=sys.stderr)
    return rule


def _allowed(variants: Sequence[Variant], given: Mapping[str, Any]) -> tuple[list[Variant], dict[str, str]]:
    """The variants whose settings go together with ``given``, and why others' do not."""
    check(given)
    allowed, refused = [], {}
    for variant in variants:
        try:
            check({**given, **variant.arguments})
        except UserError as error:
            refused[variant.name] = str(error)
        else:
            allowed.append(variant)
    return allowed, refused


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus sweep",
        description="Compare ways to look again: every grounding method with every second pass, beside the macro "
        "answers to the same questions. The model is loaded once, and what settings have in common is computed once. "
        "The same command goes on where a sweep was killed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tasks", required=True, metavar="NAMES", help="tasks and groups, separated by commas")
    parser.add_argument(
        "--grounding", default="text_box", metavar="NAMES",
        help=f"of {', '.join(GROUNDING.items)} (default: text_box); with model arguments of its own: shifted:jitter=25",
    )  # fmt: skip
    parser.add_argument(
        "--second_pass", default="append_crop", metavar="NAMES",
        help=f"of {', '.join(SECOND_PASSES.items)} (default: append_crop)",
    )  # fmt: skip
    parser.add_argument("--model_args", default="", metavar="NAME=VALUE,...", help="those of every setting")
    parser.add_argument("--batch_size", type=int, default=1, metavar="N", help="questions answered together")
    parser.add_argument("--limit", metavar="N", help="only the first N questions of each task")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR",
        help="folder for the page, the tables, and a run of each setting below DIR/runs",
    )  # fmt: skip
    return parser


def _readable(sweep: Sweep, made: Sequence[Variant], problems: dict[str, str]) -> dict[str, Run]:
    """The runs that have answers, by name; why others have none is added to ``problems``."""
    from dualfocus_eval.analysis.reading import read_run

    runs = {}
    for variant in made:
        try:
            run = read_run(sweep.folder(variant))
        except UserError as error:
            problems[variant.name] = str(error)
        else:
            if run.answers["failed"].isna().any():
                runs[variant.name] = run
    return runs


def _report(
    sweep: Sweep, made: Sequence[Variant], problems: dict[str, str], notes: Mapping[str, str], done: Counters
) -> None:
    """Print the tables and write the page; ``problems`` get what is wrong with the runs' files."""
    from rich.console import Console

    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.harness.sweeping import MACRO
    from dualfocus_eval.report.page import write_report
    from dualfocus_eval.report.sections.cost import totals
    from dualfocus_eval.report.sections.sweep import sweep_sections
    from dualfocus_eval.report.writing import run_title

    console = Console()
    macro = read_run(sweep.folder(MACRO))
    runs = _readable(sweep, made, problems)
    reference = _REFERENCE if _REFERENCE in runs else next(iter(runs), "")
    sections = sweep_sections(macro, runs, reference) if runs else []
    faults = [f"{name}: {why}" for name, why in {**problems, **notes}.items()]
    for name, run in {MACRO.name: macro, **runs}.items():
        faults += [f"{name}: {fault}" for fault in run.faults if not fault.harmless]
    index = write_report(sweep.out, f"Sweep: {run_title(macro)}, {len(runs)} settings", sections, faults)
    console.print()
    for section in sections:
        for table in section.tables.values():
            print_table(table, console)
    alone = [totals(run) for run in runs.values()]
    images, tokens = (
        int(sum(cost[name] for cost in alone for name in names))
        for names in (("images_encoded",), ("tokens_prefilled", "decode_steps"))
    )
    now = f"{done.images_encoded:,} images encoded, {done.tokens_prefilled + done.decode_steps:,} tokens computed"
    print_line(f"work of this command: {now}; of a run for each setting: {images:,} and {tokens:,}", console)
    print_line(f"report: {index}", console)
