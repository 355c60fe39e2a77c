"""Every model argument of ``--model dualfocus``: type, default, meaning, and where it can be set.

    python -m measurements.arguments_page --write

writes the tables into docs/arguments.md. They are made of the definitions: `Settings`, `EngineConfig`, `RunArguments`,
and the published box conventions.
"""

from __future__ import annotations

import argparse
import html
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.common.tables import fill_page
from dualfocus_eval.common.validation import allowed
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.families.conventions import PUBLISHED
from dualfocus_eval.harness.arguments import ARGUMENTS, RunArguments
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.recipe import INFERENCE_KEYS

__all__ = ["PAGE", "tables"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "arguments.md"
_OF_FAMILIES = {name for family in FAMILIES for name in family.settings}


def tables() -> dict[str, str]:
    """A Markdown table for each group of arguments and one of the box conventions, by its name on the page."""
    arguments = {"method": Settings, "engine": EngineConfig, "server": ServerConfig, "run": RunArguments}
    return {name: _table(kind) for name, kind in arguments.items()} | {"conventions": _conventions()}


def _conventions() -> str:
    """What each convention writes for a box in a wide image, so that the order of the numbers shows."""
    rows = ["| name | the box from (64, 96) to (320, 288) of 640 by 480 pixels | numbers |", "|---|---|---|"]
    size = (640, 480)
    box = Box(64 / 640, 96 / 480, 320 / 640, 288 / 480)
    for convention in PUBLISHED:
        written = _code(format_box(box, convention.name, image_size=size, encoded_size=size))
        numbers = "pixels of the resized image" if convention.scale is None else f"0 to {convention.scale:g}"
        order = "y first" if convention.y_first else "x first"
        rows.append(f"| `{convention.name}` | {written} | {numbers}, {order} |")
    return "\n".join(rows)


def _code(text: str) -> str:
    """Code in a cell. Renderers disagree about pipes between backticks, but not about character references."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _table(kind: type[Any]) -> str:
    hints = get_type_hints(kind, include_extras=True)
    described = TypeAdapter(kind).json_schema()["properties"]
    rows = ["| argument | values | default | meaning | also set by |", "|---|---|---|---|---|"]
    for entry in fields(kind):
        if entry.name in ARGUMENTS:
            meaning = " ".join(described[entry.name]["description"].replace("``", "`").split())
            also = "" if (kind, entry.name) == (ServerConfig, "pretrained") else _also(entry.name)
            cells = (f"`{entry.name}`", allowed(hints[entry.name]), _default(entry, kind), meaning, also)
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _default(entry: Field[Any], kind: type[Any]) -> str:
    if entry.name == "pretrained" and kind is EngineConfig:
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
