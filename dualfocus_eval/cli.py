"""The command ``dualfocus``. Every subcommand imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import dualfocus_eval
from dualfocus_eval.errors import UserError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status: 0, or 2 for a mistake of the user, or what the subcommand says."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 2
    chosen = parser.parse_args(arguments[:1])
    try:
        return _COMMANDS[chosen.command][0](arguments[1:]) or 0
    except UserError as error:
        from dualfocus_eval.report.escaping import one_line

        print(one_line(f"dualfocus {chosen.command}: error: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<8}{summary}" for name, (_, summary) in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dualfocus",
        description=dualfocus_eval.__doc__,
        epilog=f"commands:\n{lines}\n\n`dualfocus COMMAND --help` explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="dualfocus COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"dualfocus-eval {dualfocus_eval.__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="one of the commands below")
    return parser


def _eval(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.harness.cli import main as run

    return run(argv)


def _tasks(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.resources import resource_folder

    parser = argparse.ArgumentParser(
        prog="dualfocus tasks",
        description="Print the folder of this package's tasks. Evaluation finds them by itself; only lmms-eval's "
        'subcommand needs to be told: lmms-eval tasks list --include-path "$(dualfocus tasks)"',
    )
    parser.parse_args(argv)
    print(resource_folder("tasks"))
    return 0


def _models(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.models import main as run

    return run(argv)


def _data(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.data.cli import main as run

    return run(argv)


def _train(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.train.cli import main as run

    return run(argv)


def _convert(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.convert.cli import main as run

    return run(argv)


def _report(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.report.command import main as run

    return run(argv)


def _compare(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.report.compare import main as run

    return run(argv)


def _regress(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.report.regress import main as run

    return run(argv)


def _demo(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.demo import main as run

    return run(argv)


_COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int | None], str]] = {
    "eval": (_eval, "evaluate a model: lmms-eval with a place for traces and a true exit status"),
    "tasks": (_tasks, "print the folder of this package's tasks"),
    "models": (_models, "print the folder of this package's recipes, or what one of them promises and costs"),
    "data": (_data, "prepare official benchmarks, verify them; scenes, minis, gqa-mcq"),
    "train": (_train, "train a model from its recipe"),
    "convert": (_convert, "make a checkpoint in the original LLaVA layout one that loads here"),
    "report": (_report, "a finished run as a page, tables and figures: categories, rules, thresholds, boxes, cost"),
    "compare": (_compare, "compare two runs question by question"),
    "regress": (_regress, "judge a run by a committed baseline, for CI"),
    "demo": (_demo, "answer the embedded benchmarks in two passes and show the scores"),
}


if __name__ == "__main__":
    sys.exit(main())
