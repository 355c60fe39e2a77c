"""Every model argument of ``--model dualfocus``: type, default, meaning, and where it can be set.

    python -m measurements.arguments_page --write

writes the tables into docs/arguments.md. They are made of the definitions: `Settings`, `EngineConfig`, `RunArguments`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from dualfocus_eval.common.tables import fill_page
from dualfocus_eval.common.validation import allowed
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.harness.arguments import ARGUMENTS, RunArguments
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.recipe import INFERENCE_KEYS

__all__ = ["PAGE", "tables"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "arguments.md"
_OF_FAMILIES = {name for family in FAMILIES for name in family.settings}


def tables() -> dict[str, str]:
    """A Markdown table for each group of arguments, by its name on the page."""
    return {"method": _table(Settings), "engine": _table(EngineConfig), "run": _table(RunArguments)}


def _table(kind: type[Any]) -> str:
    hints = get_type_hints(kind, include_extras=True)
    described = TypeAdapter(kind).json_schema()["properties"]
    rows = ["| argument | values | default | meaning | also set by |", "|---|---|---|---|---|"]
    for entry in fields(kind):
        if entry.name in ARGUMENTS:
            meaning = " ".join(described[entry.name]["description"].replace("``", "`").split())
            cells = (f"`{entry.name}`", allowed(hints[entry.name]), _default(entry), meaning, _also(entry.name))
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _default(entry: Field[Any]) -> str:
    if entry.name == "pretrained":
        return "the embedded checkpoint"
    if entry.default is MISSING or entry.default is None:
        return "none"
    if isinstance(entry.default, bool):
        return f"`{str(entry.default).lower()}`"
    return f"`{entry.default:g}`" if isinstance(entry.default, float) else f"`{entry.default}`"


def _also(name: str) -> str:
    """The other sources of a setting, the strongest first."""
    if name == "pretrained":
        return "recipe"
    if name not in INFERENCE_KEYS:
        return ""
    return "recipe, checkpoint, family" if name in _OF_FAMILIES else "recipe, checkpoint"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    options = parser.parse_args()
    made = tables()
    print("\n\n".join(made.values()))
    if options.write:
        fill_page(PAGE, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
