"""lmms-eval's command line, with a place for traces and a status that tells success."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yaml import YAMLError

from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.harness.flags import refuse_flags

__all__ = ["run_lmms_eval"]

OK, INCOMPLETE, MISUSED, BROKEN = 0, 1, 2, 3
_COMMAND_LINE = "lmms_eval.__main__"


@dataclass(frozen=True)
class Outcome:
    """How the evaluations of one command line ended."""

    status: int
    """The worst of them: 0 every question answered, stored and written; 1 some were not; 2 a mistake of the user; 3
    broken before it was scored."""
    remarks: tuple[str, ...]
    """Why it is not 0."""
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The configuration of every task that was scored, by the task's name."""


After = Callable[[argparse.Namespace, Mapping[str, Any]], Sequence[str]]
"""From the arguments and the results of an evaluation to what went wrong with something that is done after it."""


def run_lmms_eval(argv: Sequence[str], after: After | None = None) -> Outcome:
    """Run lmms-eval's command line in this process, and ``after`` each evaluation of our model, in its first process.

    It prints what breaks a run and then ends with 0; its inner function is watched for the truth. Raises whatever is
    no mistake of the user and happens outside an evaluation.
    """
    from lmms_eval import __main__ as lmms_eval

    watch = _Watch(lmms_eval.cli_evaluate_single, after)
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
    return Outcome(max(watch.statuses, default=BROKEN), tuple(watch.remarks), watch.configs)


@dataclass
class _Watch:
    """What becomes of the evaluations of one command line; a ``--config`` may hold several."""

    inner: Callable[[argparse.Namespace], Any]
    """lmms-eval's function that runs one evaluation."""
    after: After | None = None
    """See `run_lmms_eval`."""
    statuses: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Why the exit status is not 0."""
    configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """See `Outcome.configs`."""

    def evaluate(self, args: argparse.Namespace) -> Any:
        """Run one evaluation and note how it ended. A mistake of the user ends this one, not those after it."""
        try:
            _prepare(args)
            results, samples = self.inner(args)
            faults = [] if results is None else _faults(args, results, samples)  # only the first rank has results
            if self.after and results and "dualfocus" in results:
                faults += self.after(args, results)
        except Exception as error:
            self.note_error(error)
            if not _is_mistake(error):
                raise
            if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # the other ranks would wait for this one
                print(one_line(f"dualfocus eval: {self.remarks[-1]}"), file=sys.stderr)
                raise SystemExit(MISUSED) from None
            return None, None
        self.remarks += faults
        self.configs |= (results or {}).get("configs", {})
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


def _prepare(args: argparse.Namespace) -> None:
    """Refuse flags that end a run of ours later and with less to read, and give its traces their place."""
    if args.model != "dualfocus":
        return
    refuse_flags(vars(args))
    if args.output_path and not _names_trace_dir(args.model_args or ""):
        place = f"{args.output_path}/traces"
        if isinstance(args.model_args, dict):
            args.model_args = {**args.model_args, "trace_dir": place}
        elif "," in place:
            raise UserError(
                f"--output_path {args.output_path}: a comma would end a model argument, trace_dir; choose another "
                "folder, or name one with --model_args trace_dir=FOLDER"
            )
        else:
            args.model_args = ",".join(filter(None, [args.model_args, f"trace_dir={place}"]))


def _names_trace_dir(model_args: str | Mapping[str, Any]) -> bool:
    if isinstance(model_args, str):
        return re.search(r"(?:^|,)\s*trace_dir\s*=", model_args) is not None
    return "trace_dir" in model_args


def _is_mistake(error: Exception) -> bool:
    """Whether the message alone tells the user what to do: our own, and what lmms-eval's command line refuses."""
    if isinstance(error, UserError):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    refused = isinstance(error, ValueError) and frames and frames[-1].filename == sys.modules[_COMMAND_LINE].__file__
    return isinstance(error, YAMLError) or bool(refused)


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
