"""Every command-line argument of the installed lmms-eval, and what it does with ``--model dualfocus``.

    python -m measurements.lmms_eval_arguments --write

writes the table into docs/lmms-eval-arguments.md; the verdicts are `dualfocus_eval.harness.flags.FLAGS`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from dualfocus_eval.common.tables import fill_page
from dualfocus_eval.harness.flags import FLAGS

__all__ = ["PAGE", "arguments", "table"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "lmms-eval-arguments.md"


def arguments() -> Iterator[argparse.Action]:
    """lmms-eval's own, as its parser has them, without ``--help``."""
    from lmms_eval.__main__ import parse_eval_args

    with patch.object(sys, "argv", ["lmms-eval"]):
        parser, _ = parse_eval_args()
    return (action for action in parser._actions if action.dest != "help")


def table() -> str:
    """A row per argument in Markdown."""
    rows = ["| argument | with dualfocus | |", "|---|---|---|"]
    for action in arguments():
        names, flag = ", ".join(f"`{name}`" for name in action.option_strings), FLAGS[action.dest]
        rows.append(f"| {names} | {flag.effect} | {flag.note} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    options = parser.parse_args()
    made = table()
    print(made)
    if options.write:
        fill_page(PAGE, {"arguments": made})
    return 0


if __name__ == "__main__":
    sys.exit(main())
