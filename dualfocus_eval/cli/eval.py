"""``dualfocus eval``: lmms-eval with a place for traces and an exit status that tells success."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError

from dualfocus_eval.cli.model_args import plain_arguments
from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.files import check_writable
from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.harness.arguments import check
from dualfocus_eval.harness.flags import FLAGS
from dualfocus_eval.harness.lmms_eval_command import run_lmms_eval
from dualfocus_eval.harness.written import results_file

__all__ = ["main"]

_EPILOG = """All other options are lmms-eval's own (`lmms-eval eval --help`), e.g. --log_samples or --gen_kwargs.

exit status: 0 every question was answered, stored and written; 1 questions failed, or answers, results or samples
could not be stored (the last lines say how many and why); 2 the command is wrong; 3 the run stopped before it was
scored."""


def main(argv: Sequence[str]) -> int:
    """Run lmms-eval with ``argv`` and return the exit status that the epilog of the help describes."""
    parser = _parser()
    chosen, _ = parser.parse_known_args(argv)
    runs = _read_config(chosen.config) if chosen.config else [{}]
    if not chosen.tasks and not all(run.get("tasks") for run in runs):
        parser.error(
            "--tasks is missing; e.g. --tasks df_pope_mini,df_scenes_mini (`lmms-eval --tasks list` names all)"
        )
    forwarded = list(argv)
    if not chosen.model and not any(run.get("model") for run in runs):
        forwarded += ["--model", "dualfocus"]
    plain_arguments("--gen_kwargs", chosen.gen_kwargs)
    for run in runs:
        if (chosen.model or run.get("model")) in (None, "dualfocus"):
            check(plain_arguments("--model_args", chosen.model_args or run.get("model_args") or ""))
        if output := chosen.output_path or run.get("output_path"):
            _check_writable(Path(output))
    notes: list[str] = []
    outcome = run_lmms_eval(forwarded, after=partial(_log_answers, notes))
    sys.stdout.flush()  # the remarks come last where both go into one file
    for remark in (*notes, *outcome.remarks):
        print(one_line(f"dualfocus eval: {remark}"), file=sys.stderr)
    return outcome.status


def _log_answers(notes: list[str], args: argparse.Namespace, results: Mapping[str, Any]) -> list[str]:
    """Add the table of answers to a run's page on W&B; why that failed. What the table lacks is added to ``notes``:
    nothing is wrong with a run whose table has a part of its questions, or no pictures."""
    if not args.wandb_args:
        return []
    if not (args.output_path and args.log_samples):
        notes.append("W&B has no table of answers: it needs --output_path and --log_samples")
        return []
    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.export.wandb_table import log_answers

    try:
        left_out = log_answers(read_run(results_file(args.output_path, results)))
    except Exception as error:  # whatever W&B or its network raises: the run itself is whole
        return [f"W&B has no table of answers: {type(error).__name__}: {first_line(error)}"]
    notes += [f"W&B: {what}" for what in left_out]
    return []


def _read_config(path: str) -> list[dict[str, Any]]:
    """The runs in lmms-eval's file of arguments. Raises ``UserError`` for what lmms-eval would break on."""
    try:
        runs = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} cannot be read: {error}") from None
    except YAMLError as error:
        raise UserError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from None
    runs = runs if isinstance(runs, list) and runs else [runs]
    for run in runs:
        if not isinstance(run, dict) or not isinstance(run.get("env") or {}, dict):
            raise UserError(f"--config {path}: expected arguments with values, or a list of such; found {run!r}")
        refuse_unknown(map(str, run), (*FLAGS, "env"), f"--config {path}", "argument")
        if not isinstance(run.get("model_args") or "", str | dict):
            raise UserError(f"--config {path}: model_args={run['model_args']!r} is neither text nor names with values")
    return runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus eval",
        description="Evaluate a model with lmms-eval. The default model is `dualfocus`.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tasks", metavar="NAMES", help="tasks and groups, separated by commas")
    parser.add_argument("--model", metavar="NAME", help="any model of lmms-eval (default: dualfocus)")
    parser.add_argument(
        "--model_args", default="", metavar="NAME=VALUE,...", help="e.g. pretrained=FOLDER,strategy=macro"
    )
    parser.add_argument(
        "--gen_kwargs", default="", metavar="NAME=VALUE,...", help="overrides the tasks' values, e.g. max_new_tokens=32"
    )
    parser.add_argument("--config", metavar="FILE", help="a YAML file of lmms-eval arguments")
    parser.add_argument(
        "--output_path",
        metavar="FOLDER",
        help="where results are written. Traces go to its subfolder traces, or to the model argument trace_dir "
        "(default: the user's cache)",
    )
    return parser


def _check_writable(folder: Path) -> None:
    """lmms-eval finds out only when everything has been computed."""
    try:
        check_writable(folder)
    except OSError as error:
        raise UserError(
            f"--output_path {folder} cannot be made or written: {error.strerror}; name another folder"
        ) from error
