"""Commands and subcommands: a module each, imported when it runs, so that help is instant."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["command", "command_parser"]


def command_parser(program: str, description: str | None, summaries: Mapping[str, str]) -> argparse.ArgumentParser:
    """A parser of a command's name; its help lists every name with its summary."""
    width = max(map(len, summaries))
    lines = "\n".join(f"  {name:<{width}} {summary}" for name, summary in summaries.items())
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"commands:\n{lines}\n\n`{program} COMMAND --help` explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{program} COMMAND ...",
    )
    parser.add_argument("command", choices=summaries, metavar="COMMAND", help="one of the commands below")
    return parser


def command(name: str) -> Callable[[Sequence[str]], int]:
    """The function that runs a command: ``main`` of its module, which is imported now; ``data vg`` is ``data_vg``."""
    run: Callable[[Sequence[str]], int] = import_module(
        f"dualfocus_eval.cli.{name.replace(' ', '_').replace('-', '_')}"
    ).main
    return run
