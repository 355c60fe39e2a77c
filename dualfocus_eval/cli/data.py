"""``dualfocus data``: benchmarks, scenes, and training data out of Visual Genome."""

from __future__ import annotations

from collections.abc import Sequence

from dualfocus_eval.cli.commands import command, command_parser

__all__ = ["main"]

COMMANDS = {
    "prepare": "an official release, as the df tasks read it from $DUALFOCUS_DATA",
    "verify": "check prepared benchmarks against manifest and published counts",
    "gqa-mcq": "a multiple-choice set out of GQA's own annotations",
    "vg": "training samples out of Visual Genome's own files",
    "scenes": "scenes with questions in Visual Genome's annotation format",
    "minis": "the embedded sets of the _mini tasks, bit for bit",
}


def main(argv: Sequence[str]) -> int:
    """Run one data command; 0 when everything was written. Raises ``UserError`` for a wrong argument."""
    chosen = command_parser("dualfocus data", "Prepare and make data.", COMMANDS).parse_args(argv[:1]).command
    return command(f"data {chosen}")(argv[1:])
