"""``dualfocus demo``: the embedded benchmarks in one run, and what each pathway and rule is worth on them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError

__all__ = ["main"]

TASKS = "df_mini"
_NEEDED = "strategy=dualfocus,score_all=true,adaptive_nll=none"
"""Both candidates of every question, scored for every rule."""


def main(argv: Sequence[str]) -> int:
    """Run, print the tables, write the report and fill pages; the exit status is that of ``dualfocus eval``."""
    chosen = _parser().parse_args(argv)
    for name in (part.partition("=")[0] for part in _NEEDED.split(",")):
        if f"{name}=" in chosen.model_args:
            raise UserError(f"--model_args: the demo compares all rules and sets {name} itself; leave it out")
    for page in chosen.markdown:
        if not page.is_file():
            raise UserError(f"--markdown: no page {page}; it must exist and have a place to fill")
    output: Path = chosen.output_path or _default_output()
    status = _evaluate(chosen, output)
    if status > 1:
        return status
    _report(output, chosen.markdown)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus demo",
        description="Answer the embedded benchmarks in two passes (one run of lmms-eval), print the scores of macro, "
        "micro, each selection rule and the oracle per kind of question, and write a report.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output_path",
        type=Path,
        metavar="FOLDER",
        help="folder for results, traces and report (default: in the user's cache); answers stored there are reused",
    )
    parser.add_argument(
        "--model_args",
        default="",
        metavar="NAME=VALUE,...",
        help="model arguments, e.g. pretrained=FOLDER (default: the embedded checkpoint)",
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, metavar="N", help="questions answered together (default: 16)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions of each task")
    parser.add_argument(
        "--markdown",
        type=Path,
        nargs="+",
        default=[],
        metavar="PAGE",
        help="Markdown pages whose marked places are filled with the tables, e.g. "
        "<!-- scores --><!-- end of scores --> (also summary, differences, boxes, run)",
    )
    return parser


def _default_output() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("dualfocus-eval") / "demo"


def _evaluate(chosen: argparse.Namespace, output: Path) -> int:
    from dualfocus_eval.cli.eval import main as evaluate

    model_args = ",".join(filter(None, [chosen.model_args, _NEEDED]))
    arguments = ["--tasks", TASKS, "--model_args", model_args, "--batch_size", str(chosen.batch_size)]
    arguments += ["--output_path", str(output), "--log_samples"]
    arguments += ["--limit", str(chosen.limit)] if chosen.limit is not None else []
    return evaluate(arguments)


def _report(output: Path, pages: Sequence[Path]) -> None:
    from rich.console import Console

    from dualfocus_eval.analysis.reading import read_run
    from dualfocus_eval.common.tables import fill_page, print_line, print_table, to_markdown
    from dualfocus_eval.report.writing import report_run
    from dualfocus_eval.tiny.effect import effect_tables

    run, console = read_run(output), Console()
    tables = effect_tables(run)
    console.print()
    for table in tables.values():
        print_table(table, console)
    index = report_run(run, output / "report")
    print_line(f"report: {index}", console)
    for page in pages:
        fill_page(page, {name: to_markdown(table) for name, table in tables.items()})
        print_line(f"filled: {page}", console)
