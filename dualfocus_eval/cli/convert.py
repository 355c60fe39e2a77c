"""``dualfocus convert``: checkpoints in the original LLaVA layout into the hub's llava-hf layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.cli.recipes import given_recipe
from dualfocus_eval.convert.source import claimable, read_source

__all__ = ["main"]

_LLAVA = """
SRC is a folder with config.json, weights (safetensors or .bin, one file or sharded) and tokenizer.model or
tokenizer.json, as released for LLaVA-1.5, ShareGPT4V and DualFocus. OUT must not exist, or must be empty. Files are
written to OUT.unfinished-conversion, which is renamed to OUT when it is complete. The next run removes what an
interrupted run left.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Convert and print where the checkpoint is; 0 when it was written. Raises ``UserError`` for what cannot be."""
    parser = argparse.ArgumentParser(
        prog="dualfocus convert",
        description="Convert checkpoints from the original LLaVA layout to the hub's llava-hf layout.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    llava = commands.add_parser("llava", help="LLaVA-1.5, ShareGPT4V and DualFocus checkpoints", description=_LLAVA)
    llava.add_argument("source", type=Path, metavar="SRC", help="folder of the checkpoint")
    llava.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    llava.add_argument(
        "--vision-tower",
        type=Path,
        metavar="PATH",
        help="folder of the CLIP vision tower, for checkpoints without one; for a checkpoint with its own vision "
        "weights, only config.json is read from here",
    )
    llava.add_argument(
        "--recipe",
        default="released",
        help="recipe whose inference settings are written to dualfocus.json (default: %(default)s, for DualFocus "
        "checkpoints; use llava-1.5-7b-base for checkpoints without DualFocus training)",
    )
    options = parser.parse_args(argv)
    recipe = given_recipe(options.recipe)
    source = read_source(options.source)
    claimable(options.out)
    from dualfocus_eval.convert.llava import convert

    convert(source, options.out, options.vision_tower, recipe)
    print(f"checkpoint: {options.out}")
    return 0
