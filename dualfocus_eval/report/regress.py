"""``dualfocus regress``: is a run as good as its baseline? An exit status for CI, and what moved."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.errors import UserError
from dualfocus_eval.resources import resource_folder

__all__ = ["main"]

PASSED, REGRESSED, NOT_JUDGED = 0, 1, 2
_SHOWN = 20

_EPILOG = """In float32 and the baseline's own environment (processor, threads, device, attention implementation,
batch size, versions of torch, torchvision, transformers, tokenizers, pillow, numpy) every answer must be the
baseline's. In another environment, an answer may move whose closest call was below 0.001 nats: two best tokens, or two
candidates between which likelihood chose. In both, a task's score must not be worse at the 5% level.

exit status: 0 within tolerance; 1 regression; 2 it cannot be judged (missing tasks, other questions, another
checkpoint, a run that is not whole). GitHub Actions gets annotations and a step summary."""


def main(argv: Sequence[str]) -> int:
    """Judge, or with ``--update`` write the baseline; the exit status is that of the help's epilog.

    Raises ``UserError`` where the run cannot be judged, after it has told CI.
    """
    chosen = _parser().parse_args(argv)
    packaged = resource_folder("reports") / "baselines" / f"{chosen.baseline}.json"
    chosen.renewed = chosen.baseline
    if not (chosen.update or chosen.baseline.is_file()) and packaged.is_file():
        chosen.baseline, chosen.renewed = packaged, Path(packaged.name)
    try:
        _refuse_misuse(chosen)
        return _update(chosen.run, chosen.baseline) if chosen.update else _judge(chosen)
    except UserError as error:
        _tell_ci(str(error), chosen.junit)
        raise
    except Exception as error:  # status 1 would say that the run got worse
        message = f"{chosen.run}: an error that was not foreseen: {_described(error)}; please report it"
        _tell_ci(message, chosen.junit)
        raise UserError(message) from error


def _described(error: Exception) -> str:
    """Kind, text and place of an error on one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(last.filename).name}, line {last.lineno})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus regress",
        description="Compare a run with a committed baseline, question by question.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the --output_path of a run with --log_samples")
    parser.add_argument(
        "--baseline",
        type=Path,
        required=True,
        metavar="FILE",
        help="the baseline; or the name of one that comes with the package, e.g. df_pope_mini",
    )
    parser.add_argument("--update", action="store_true", help="write the baseline from this run instead of judging it")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the verdict as JUnit XML")
    return parser


def _refuse_misuse(chosen: argparse.Namespace) -> None:
    if chosen.update and chosen.junit:
        raise UserError("--junit: there is no verdict to write with --update; leave one of them out")
    if not chosen.run.exists():
        raise UserError(f"there is no run {chosen.run}; name the --output_path of a run with --log_samples")
    if not (chosen.update or chosen.baseline.is_file()):
        raise UserError(f"--baseline: there is no file {chosen.baseline}; make it from a good run with --update")


def _judge(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from dualfocus_eval.report.baseline import load_baseline, reduce_run
    from dualfocus_eval.report.github import announce
    from dualfocus_eval.report.junit import verdict_xml
    from dualfocus_eval.report.reading import read_run
    from dualfocus_eval.report.regression import judge
    from dualfocus_eval.report.runs import print_faults
    from dualfocus_eval.report.tables import print_table
    from dualfocus_eval.report.wording import headline, move_table, task_table

    baseline = load_baseline(chosen.baseline)
    run = read_run(chosen.run)
    console = Console()
    console.print(f"run: {run.path}", highlight=False, markup=False, soft_wrap=True)
    print_faults(run, console)
    verdict = judge(reduce_run(run), baseline)
    print_table(task_table(verdict), console)
    if verdict.moves:
        print_table(move_table(verdict, _SHOWN), console)
    if chosen.junit:
        _write(chosen.junit, verdict_xml(verdict))
    if _on_github():
        announce(verdict)
    color = "green" if verdict.passed else "red"
    console.print(headline(verdict), style=color, highlight=False, markup=False, soft_wrap=True)
    if not verdict.passed:
        print(f"if this is meant: dualfocus regress {chosen.run} --baseline {chosen.renewed} --update")
        if chosen.renewed.resolve().is_relative_to(resource_folder("reports").resolve()):
            print("that replaces a baseline of dualfocus-eval itself; another FILE makes one of your own")
    return PASSED if verdict.passed else REGRESSED


def _update(place: Path, path: Path) -> int:
    from dualfocus_eval.report.baseline import reduce_run, save_baseline
    from dualfocus_eval.report.reading import read_run

    baseline = reduce_run(read_run(place))
    failed = sum(answer.text is None for answers in baseline.tasks.values() for answer in answers)
    if failed:
        raise UserError(f"{failed:,} questions of {place} failed; a baseline is made from a run without failures")
    save_baseline(baseline, path)
    print(f"{path}: {baseline.questions:,} questions of {', '.join(baseline.tasks)}, {path.stat().st_size:,} bytes")
    return PASSED


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"--junit: {path} cannot be written: {error}") from error


def _tell_ci(message: str, junit: Path | None) -> None:
    """That the run could not be judged."""
    if junit:
        from dualfocus_eval.report.junit import error_xml

        _write(junit, error_xml(message))
    if _on_github():
        from dualfocus_eval.report.github import announce_error

        announce_error(message)


def _on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
