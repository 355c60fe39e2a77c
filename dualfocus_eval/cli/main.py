"""The command ``dualfocus``: its commands, their exit status, and what is said where one fails."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import dualfocus_eval
from dualfocus_eval.cli.commands import command, command_parser
from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.output import lasting_output

__all__ = ["main"]

COMMANDS = {
    "ask": "ask a question about images: the box, both answers, the selection and its reason",
    "check": "check that a model is set up right: prompts, boxes, agreement of batches, cost",
    "eval": "evaluate a model with lmms-eval, keep its traces, and end with a true exit status",
    "sweep": "compare grounding methods, second passes and controls in one command",
    "serve-command": "print the commands that serve a model with vLLM or SGLang, for one GPU up to a cluster",
    "tasks": "list this package's tasks and what they need",
    "models": "print the recipes' folder, or a recipe's expected scores and cost",
    "data": "prepare and verify benchmarks; build training samples",
    "train": "train a model from its recipe",
    "convert": "convert a checkpoint from the original LLaVA layout",
    "report": "turn a finished run into a page, tables and figures",
    "view": "show a run in the browser: its progress while it answers, then its report",
    "export": "write a finished run's questions for pandas, Hugging Face datasets or FiftyOne",
    "calibrate": "fit the choice between both answers on a finished run",
    "compare": "compare two runs question by question",
    "join": "decide between the answers of two runs by perplexity",
    "reproduce": "make a table or figure of the paper, by its name",
    "regress": "judge a run against a committed baseline, for CI",
    "demo": "answer the embedded benchmarks and show the effect of two passes",
}

_RESUMED = ("eval", "sweep", "reproduce", "demo")
"""Commands that store answers as they come."""
MISUSED, CRASHED, INTERRUPTED = 2, 3, 130
"""Exit statuses other than success; what 1 means depends on the command (docs/reliability.md)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status, as docs/reliability.md describes them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = command_parser("dualfocus", dualfocus_eval.__doc__, COMMANDS)
    parser.add_argument("--version", action="version", version=f"dualfocus-eval {dualfocus_eval.__version__}")
    if not arguments:
        parser.print_help()
        return MISUSED
    chosen = parser.parse_args(arguments[:1]).command
    with lasting_output(f"dualfocus {chosen}") as output:
        status = _run(chosen, arguments[1:])
    return max(status, CRASHED) if output is not None and output.lost else status


def _run(chosen: str, argv: Sequence[str]) -> int:
    name = f"dualfocus {chosen}"
    try:
        return command(chosen)(argv)
    except UserError as error:
        print(one_line(f"{name}: error: {error}"), file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        kept = "; the answers so far are stored, and the same command resumes there"
        print(f"{name}: interrupted{kept if chosen in _RESUMED else ''}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # whatever a defect raises must not look like status 1
        traceback.print_exc()
        what = f"{type(error).__name__}: {first_line(error)}"
        print(one_line(f"{name}: crashed: {what} (please report this with the lines above)"), file=sys.stderr)
        return CRASHED


if __name__ == "__main__":
    sys.exit(main())
