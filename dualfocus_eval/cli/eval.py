"""``dualfocus eval``: lmms-eval with a place for traces and an exit status that tells success."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from dualfocus_eval.harness.flags import FLAGS, refuse_flags

__all__ = ["main"]

OK, INCOMPLETE, MISUSED, BROKEN = 0, 1, 2, 3

_EPILOG = """All other options are lmms-eval's own (`lmms-eval eval --help`), e.g. --log_samples or --gen_kwargs.

exit status: 0 every question was answered, stored and written; 1 some failed, or answers, results or samples could
not be stored, the last lines say how many and why; 2 the command was wrong; 3 the run broke before it was scored."""


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
    return _run_lmms_eval(forwarded)


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
        description="Evaluate a model with lmms-eval, the model `dualfocus` if no other is named.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tasks", metavar="NAMES", help="tasks and groups, separated by commas")
    parser.add_argument("--model", metavar="NAME", help="a model of lmms-eval (default: dualfocus)")
    parser.add_argument(
        "--model_args", default="", metavar="NAME=VALUE,...", help="e.g. pretrained=FOLDER,strategy=macro"
    )
    parser.add_argument(
        "--gen_kwargs", default="", metavar="NAME=VALUE,...", help="override the tasks' own, e.g. max_new_tokens=32"
    )
    parser.add_argument("--config", metavar="FILE", help="lmms-eval's YAML file of arguments")
    parser.add_argument(
        "--output_path",
        metavar="FOLDER",
        help="where lmms-eval writes results; the traces go into its folder traces unless trace_dir is among the "
        "model arguments (without either: into the user's cache)",
    )
    return parser


def _prepare(args: argparse.Namespace) -> None:
    """Refuse flags that end a run of ours later and with less to read, and give its traces their place."""
    if args.model != "dualfocus":
        return
    refuse_flags(vars(args))
    if args.output_path and not _names_trace_dir(args.model_args or ""):
        place = f"{args.output_path}/traces"
        if isinstance(args.model_args, dict):
            args.model_args = {**args.model_args, "trace_dir": place}
        else:
            args.model_args = ",".join(filter(None, [args.model_args, f"trace_dir={place}"]))


def _names_trace_dir(model_args: str | Mapping[str, Any]) -> bool:
    if isinstance(model_args, str):
        return re.search(r"(?:^|,)\s*trace_dir\s*=", model_args) is not None
    return "trace_dir" in model_args


def _check_writable(folder: Path) -> None:
    """lmms-eval finds out only when everything has been computed."""
    try:
        check_writable(folder)
    except OSError as error:
        raise UserError(
            f"--output_path {folder} cannot be made or written: {error.strerror}; name another folder"
        ) from error


def _run_lmms_eval(argv: Sequence[str]) -> int:
    """lmms-eval prints what breaks a run and then ends with 0; its inner function is watched for the truth."""
    from lmms_eval import __main__ as lmms_eval

    watch = _Watch(lmms_eval.cli_evaluate_single)
    lmms_eval.cli_evaluate_single = watch.evaluate
    previous, sys.argv = sys.argv, ["lmms-eval", *argv]
    try:
        lmms_eval.cli_evaluate()
    except Exception as error:
        if not _is_mistake(error):
            raise
        watch.note_error(error)
    finally:
        sys.argv = previous
        lmms_eval.cli_evaluate_single = watch.inner
    sys.stdout.flush()  # the remarks come last where both go into one file
    for remark in watch.remarks:
        print(one_line(f"dualfocus eval: {remark}"), file=sys.stderr)
    return max(watch.statuses, default=BROKEN)


@dataclass
class _Watch:
    """What becomes of the evaluations of one command line; a ``--config`` may hold several."""

    inner: Callable[[argparse.Namespace], Any]
    """lmms-eval's function that runs one evaluation."""
    statuses: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Why the exit status is not 0."""

    def evaluate(self, args: argparse.Namespace) -> Any:
        """Run one evaluation and note how it ended. A mistake of the user ends this one, not those after it."""
        try:
            _prepare(args)
            results, samples = self.inner(args)
            faults = [] if results is None else _faults(args, results, samples)  # only the first rank has results
        except Exception as error:
            self.note_error(error)
            if not _is_mistake(error):
                raise
            if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # the other ranks would wait for this one
                print(one_line(f"dualfocus eval: {self.remarks[-1]}"), file=sys.stderr)
                raise SystemExit(MISUSED) from None
            return None, None
        self.remarks += faults
        self.statuses.append(INCOMPLETE if faults else OK)
        return results, samples

    def note_error(self, error: Exception) -> None:
        """Note an evaluation that had no result."""
        if _is_mistake(error):
            text = " ".join(str(error).partition(". Try ")[0].split())
            named = " (`lmms-eval --tasks list` names all)" if text.startswith("Tasks not found") else ""
            self.remarks.append(f"error: {text}{named}")
            self.statuses.append(MISUSED)
        else:
            what = f"{type(error).__name__}: {first_line(error)}"
            self.remarks.append(f"the run broke before it was scored ({what})")
            self.statuses.append(BROKEN)


def _is_mistake(error: Exception) -> bool:
    """Whether the message alone tells the user what to do: our own, and what lmms-eval's command line refuses."""
    if isinstance(error, UserError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    refused = isinstance(error, ValueError) and frames and frames[-1].filename == sys.modules[_COMMAND_LINE].__file__
    return isinstance(error, YAMLError) or bool(refused)


_COMMAND_LINE = "lmms_eval.__main__"


def _faults(args: argparse.Namespace, results: Mapping[str, Any], samples: Mapping[str, Any] | None) -> list[str]:
    """Why the results of a run that was scored are not to be relied on, in the words of the terminal."""
    from dualfocus_eval.harness.outcomes import failure_notice
    from dualfocus_eval.harness.written import file_faults

    faults = []
    if record := results.get("dualfocus"):  # other models leave none
        if notice := failure_notice(record):
            faults.append(f"{notice}; they are tried again by the same command")
        if unwritten := record["summary"]["unwritten"]:
            faults.append(f"{unwritten} answers could not be stored in {record['traces']}")
    if args.output_path:
        faults += file_faults(args.output_path, results, samples)
    return faults
