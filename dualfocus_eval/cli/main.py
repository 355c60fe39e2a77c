"""The command ``dualfocus``. Every subcommand imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

import dualfocus_eval
from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.output import lasting_output

__all__ = ["main"]


DONE, MISUSED, CRASHED, INTERRUPTED = 0, 2, 3, 130
"""Exit statuses; what 1 means depends on the command (docs/reliability.md)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status, as docs/reliability.md describes them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not arguments:
        parser.print_help()
        return MISUSED
    command = parser.parse_args(arguments[:1]).command
    with lasting_output(f"dualfocus {command}") as output:
        status = _run(command, arguments[1:])
    return max(status, CRASHED) if output is not None and output.lost else status


def _run(command: str, argv: Sequence[str]) -> int:
    name = f"dualfocus {command}"
    try:
        return _COMMANDS[command][0](argv) or DONE
    except UserError as error:
        print(one_line(f"{name}: error: {error}"), file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        kept = "; what dualfocus answered is stored, the same command goes on from there"
        print(f"{name}: interrupted{kept if command in ('eval', 'demo') else ''}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # whatever a defect raises must not look like status 1
        traceback.print_exc()
        what = f"{type(error).__name__}: {first_line(error)}"
        print(one_line(f"{name}: crashed: {what} (please report this with the lines above)"), file=sys.stderr)
        return CRASHED


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
    from dualfocus_eval.cli.eval import main as run

    return run(argv)


def _ask(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.ask import main as run

    return run(argv)


def _tasks(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.tasks import main as run

    return run(argv)


def _models(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.models import main as run

    return run(argv)


def _data(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.data import main as run

    return run(argv)


def _train(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.train import main as run

    return run(argv)


def _convert(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.convert import main as run

    return run(argv)


def _report(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.report import main as run

    return run(argv)


def _compare(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.compare import main as run

    return run(argv)


def _regress(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.cli.regress import main as run

    return run(argv)


def _demo(argv: Sequence[str]) -> int | None:
    from dualfocus_eval.tiny.demo import main as run

    return run(argv)


_COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int | None], str]] = {
    "ask": (_ask, "ask one question about images: box, both answers, what was selected and why"),
    "eval": (_eval, "evaluate a model: lmms-eval with a place for traces and a true exit status"),
    "tasks": (_tasks, "list this package's tasks and what each needs"),
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
