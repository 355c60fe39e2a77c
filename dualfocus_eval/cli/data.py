"""``dualfocus data``: benchmarks, scenes, and training data out of Visual Genome."""

from __future__ import annotations

from collections.abc import Sequence

from dualfocus_eval.cli.commands import command, command_parser

__all__ = ["main"]

COMMANDS = {
    "prepare": "convert an official release into what the df tasks read",
    "verify": "check prepared benchmarks against their manifest and published counts",
    "gqa-mcq": "build a multiple-choice set from GQA's annotations",
    "vg": "build training samples from Visual Genome's files",
    "scenes": "render scenes with questions, in Visual Genome's format",
    "details": "render scenes with questions about details, in V*Bench's format",
    "minis": "regenerate the embedded sets, bit for bit",
}


def main(argv: Sequence[str]) -> int:
    """Run one data command; 0 when everything was written. Raises ``UserError`` for a wrong argument."""
    chosen = (
        command_parser("dualfocus data", "Prepare benchmarks and build training data.", COMMANDS)
        .parse_args(argv[:1])
        .command
    )
    return command(f"data {chosen}")(argv[1:])
