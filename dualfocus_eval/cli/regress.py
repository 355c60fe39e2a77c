"""``dualfocus regress``: is a run as good as its baseline? An exit status for CI, and what moved."""

from __future__ import annotations

import argparse
import math
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.gate.packaged import is_packaged, packaged_baseline, packaged_names

__all__ = ["main"]

PASSED, REGRESSED, NOT_JUDGED = 0, 1, 2
_SHOWN = 20

_EPILOG = """In float32 and the baseline's own environment (processor, threads, device, attention implementation,
batch size, versions of torch, torchvision, transformers, tokenizers, pillow, numpy), no answer may get worse. In
another environment, an answer may get worse if its smallest margin was below 0.001 nats: between the two best tokens,
or between two candidates that likelihood decided. In both, a task's score must not be worse at the 5% level. A question
that failed or has lost its score counts as lost, which is always a regression. Changed answers that score the same or
better are shown. Of a run on a server neither files nor precision are known: any answer may get worse, and the scores
are tested.

exit status: 0 within tolerance; 1 regression: something got worse or was lost; 2 no verdict (several runs in the
folder, missing tasks, other questions, another checkpoint, an incomplete run, an edited baseline); 3 an error in
dualfocus-eval itself. Under GitHub Actions, annotations and a step summary are written."""


def main(argv: Sequence[str]) -> int:
    """Judge, or with ``--update`` write the baseline; the exit status is that of the help's epilog.

    Raises ``UserError`` where the run cannot be judged, after it has told CI; other errors are passed on likewise.
    """
    chosen = _parser().parse_args(argv)
    chosen.renewed = chosen.baseline
    if not chosen.update and (packaged := packaged_baseline(chosen.baseline)):
        chosen.baseline, chosen.renewed = packaged, Path(packaged.name)
    try:
        _refuse_misuse(chosen)
        return _update(chosen.run, chosen.baseline) if chosen.update else _judge(chosen)
    except UserError as error:
        _tell_ci(str(error), chosen.junit)
        raise
    except Exception as error:
        _tell_ci(f"{chosen.run}: an error in dualfocus-eval itself: {_described(error)}", chosen.junit)
        raise


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
        help="a baseline file, or the name of an included baseline, e.g. df_pope_mini",
    )
    parser.add_argument("--update", action="store_true", help="write the baseline from this run instead of judging it")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the verdict as JUnit XML")
    parser.add_argument(
        "--max-drop",
        type=_percent,
        metavar="POINTS",
        help="judge by scores alone: a task's score may fall by this many points, and single answers may get worse",
    )
    parser.add_argument(
        "--min-score",
        type=_min_score,
        action="append",
        default=[],
        metavar="TASK=VALUE",
        help="fail if this task's score on the baseline's questions is below VALUE percent; repeat for each task",
    )
    parser.add_argument(
        "--other-engine",
        action="store_true",
        help="judge a server's run by a baseline of the engine in process, or the reverse; whether both ran the same "
        "checkpoint is not checked",
    )
    return parser


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return value


def _min_score(text: str) -> tuple[str, float]:
    task, _, value = text.rpartition("=")
    if not task:
        raise argparse.ArgumentTypeError(f"{text!r} is not TASK=VALUE")
    return task, _percent(value)


def _refuse_misuse(chosen: argparse.Namespace) -> None:
    if chosen.update and chosen.junit:
        raise UserError("--junit: there is no verdict to write with --update; leave one of them out")
    if chosen.update and (chosen.max_drop is not None or chosen.min_score or chosen.other_engine):
        raise UserError("--max-drop, --min-score, --other-engine: with --update nothing is judged; leave them out")
    limited = [task for task, _ in chosen.min_score]
    for task in {task for task in limited if limited.count(task) > 1}:
        raise UserError(f"--min-score is given twice for {task}; give it once")
    if not chosen.run.exists():
        raise UserError(f"there is no run {chosen.run}; name the --output_path of a run with --log_samples")
    if not (chosen.update or chosen.baseline.is_file()):
        raise UserError(
            f"--baseline: there is no file {chosen.baseline}; make it from a good run with --update, or name an "
            f"included baseline: {', '.join(packaged_names())}"
        )


def _judge(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.analysis.runs import print_faults
    from dualfocus_eval.common.tables import print_line, print_table
    from dualfocus_eval.gate.baseline import reduce_run
    from dualfocus_eval.gate.baseline_file import load_baseline
    from dualfocus_eval.gate.github import announce
    from dualfocus_eval.gate.judging import judge
    from dualfocus_eval.gate.junit import verdict_xml
    from dualfocus_eval.gate.verdict import Limits
    from dualfocus_eval.gate.verdict_text import headline, move_table, task_table

    baseline = load_baseline(chosen.baseline)
    run = read_run(chosen.run, only=True)
    console = Console()
    print_line(f"run: {run.path}", console)
    print_faults(run, console)
    verdict = judge(
        reduce_run(run), baseline, Limits(chosen.max_drop, dict(chosen.min_score)), other_engine=chosen.other_engine
    )
    print_table(task_table(verdict), console)
    if verdict.moves:
        print_table(move_table(verdict, _SHOWN), console)
    if chosen.junit:
        _write(chosen.junit, verdict_xml(verdict))
    if _on_github():
        announce(verdict)
    print_line(headline(verdict), console, "green" if verdict.passed else "red")
    if not verdict.passed:
        print_line(f"if this is meant: dualfocus regress {chosen.run} --baseline {chosen.renewed} --update", console)
        if is_packaged(chosen.renewed):
            print_line("that replaces a baseline of dualfocus-eval itself; another FILE makes one of your own", console)
    return PASSED if verdict.passed else REGRESSED


def _update(place: Path, path: Path) -> int:
    from rich.console import Console

    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.common.tables import print_line
    from dualfocus_eval.gate.baseline import baseline_of
    from dualfocus_eval.gate.baseline_file import save_baseline

    baseline = baseline_of(read_run(place, only=True))
    save_baseline(baseline, path)
    size, tasks = path.stat().st_size, ", ".join(baseline.tasks)
    print_line(f"{path}: {baseline.questions:,} questions of {tasks}, {size:,} bytes", Console())
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
        from dualfocus_eval.gate.junit import error_xml

        _write(junit, error_xml(message))
    if _on_github():
        from dualfocus_eval.gate.github import announce_error

        announce_error(message)


def _on_github() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"
