"""``dualfocus eval``: lmms-eval with a place for traces and an exit status that tells success."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualfocus_eval.errors import UserError
from dualfocus_eval.harness.arguments import check
from dualfocus_eval.harness.flags import FLAGS, refuse_flags
from dualfocus_eval.naming import refuse_unknown

__all__ = ["main"]

OK, QUESTIONS_FAILED, MISUSED, BROKEN = 0, 1, 2, 3

_EPILOG = """All other options are lmms-eval's own (`lmms-eval eval --help`), e.g. --log_samples or --gen_kwargs.

exit status: 0 every question was answered and stored; 1 some failed or could not be stored, the table at the end
says how many and why; 2 the command was wrong; 3 the run broke before it was scored."""


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
    for run in runs:
        if (chosen.model or run.get("model")) in (None, "dualfocus"):
            check(_plain_arguments(chosen.model_args or run.get("model_args") or ""))
    return _run_lmms_eval(forwarded)


def _read_config(path: str) -> list[dict[str, Any]]:
    """The runs in lmms-eval's file of arguments. Raises ``UserError`` for what lmms-eval would break on."""
    import yaml

    try:
        runs = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
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
    parser.add_argument("--config", metavar="FILE", help="lmms-eval's YAML file of arguments")
    parser.add_argument(
        "--output_path",
        metavar="FOLDER",
        help="where lmms-eval writes results; the traces go into its folder traces unless trace_dir is among the "
        "model arguments (without either: into the user's cache)",
    )
    return parser


def _plain_arguments(model_args: str | Mapping[str, Any]) -> dict[str, Any]:
    """Model arguments as far as they can be told without lmms-eval's parser, which takes seconds to import."""
    if not isinstance(model_args, str):
        return dict(model_args)
    if re.search(r"[\"'{\[]", model_args):
        return {}
    parts = [part.partition("=") for part in model_args.split(",") if part]
    for name, equals, _ in parts:
        if not equals:
            raise UserError(f"--model_args: {name!r} is not NAME=VALUE")
    return {name.strip(): value for name, _, value in parts}


def _prepare(args: argparse.Namespace) -> None:
    """Refuse flags that end a run of ours later and with less to read, and give its traces their place."""
    if args.model != "dualfocus":
        return
    refuse_flags(vars(args))
    if args.output_path and "trace_dir" not in (args.model_args or ""):
        place = f"{args.output_path}/traces"
        if isinstance(args.model_args, dict):
            args.model_args = {**args.model_args, "trace_dir": place}
        else:
            args.model_args = ",".join(filter(None, [args.model_args, f"trace_dir={place}"]))


def _run_lmms_eval(argv: Sequence[str]) -> int:
    """lmms-eval prints what breaks a run and then ends with 0; its inner function is watched for the truth."""
    from lmms_eval import __main__ as lmms_eval

    statuses: list[int] = []
    evaluate_one = lmms_eval.cli_evaluate_single

    def watched(args: argparse.Namespace) -> Any:
        statuses.append(BROKEN)
        try:
            _prepare(args)
            results = evaluate_one(args)
        except UserError as error:
            print(f"dualfocus eval: error: {error}", file=sys.stderr)
            raise SystemExit(MISUSED) from None
        except ValueError as error:
            if not str(error).startswith("Tasks not found"):
                raise
            named = str(error).partition(". ")[0]
            print(f"dualfocus eval: error: {named} (`lmms-eval --tasks list` names all)", file=sys.stderr)
            raise SystemExit(MISUSED) from None
        statuses[-1] = _status(getattr(args, "dualfocus", None))
        return results

    lmms_eval.cli_evaluate_single = watched
    previous, sys.argv = sys.argv, ["lmms-eval", *argv]
    try:
        lmms_eval.cli_evaluate()
    finally:
        sys.argv = previous
        lmms_eval.cli_evaluate_single = evaluate_one
    return max(statuses, default=BROKEN)


def _status(record: dict[str, Any] | None) -> int:
    """The status of a run that was scored, by the record that the model left; other models leave none."""
    if record is None:
        return OK
    summary = record["summary"]
    return QUESTIONS_FAILED if summary["failures"] or summary["unwritten"] else OK
