"""A report on disk: index.html and report.md, every table as CSV and JSON, every figure as SVG and PNG."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.errors import UserError
from dualfocus_eval.report.sections import Section
from dualfocus_eval.report.tables import Cell, Number, cell_text, escaped, to_csv, to_json, to_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_report"]

_TEMPLATE = "page.html.jinja"
_RUN_LINK = re.compile(r"^\[Report of [^\]]*\]\((\d+-[A-Za-z0-9_.-]+)/index\.html\)$", re.MULTILINE)
_REPRODUCIBLE = {"svg.hashsalt": "dualfocus", "svg.fonttype": "path"}


@dataclass(frozen=True)
class _Figure:
    file: str
    caption: str


def write_report(out: Path, title: str, sections: Sequence[Section], faults: Sequence[str] = ()) -> Path:
    """Write everything below ``out`` and return its index.html; empty sections are left out.

    Tables and figures of an earlier report there are removed first, and the reports of runs that it links to, so that
    none is taken for this one's.

    Whatever comes from questions, answers and file names is escaped: nothing in it runs. Raises ``UserError`` where
    the folder cannot be written.
    """
    sections = [section for section in sections if not section.empty]
    try:
        for folder in (out / "tables", out / "figures"):
            folder.mkdir(parents=True, exist_ok=True)
        _remove_earlier(out)
        for section in sections:
            for name, table in (*section.tables.items(), *section.data.items()):
                (out / "tables" / f"{name}.csv").write_text(to_csv(table), encoding="utf-8")
                (out / "tables" / f"{name}.json").write_text(to_json(table), encoding="utf-8")
        figures = {section.name: _write_figures(section, out) for section in sections}
        (out / "report.md").write_text(_markdown(title, sections, figures, faults), encoding="utf-8")
        (out / "index.html").write_text(_html(title, sections, figures, faults), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written: {error}") from error
    return out / "index.html"


def _remove_earlier(out: Path) -> None:
    """An earlier report's tables, figures and reports of several runs; what is somebody else's stays.

    Tables and figures come in pairs; runs are named by the links of its Markdown page.
    """
    if not (out / "index.html").is_file():
        return
    for folder, one, other in (("tables", ".csv", ".json"), ("figures", ".svg", ".png")):
        for path in list((out / folder).glob(f"*{one}")):
            if (pair := path.with_suffix(other)).is_file():
                path.unlink()
                pair.unlink()
    page = out / "report.md"
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    for name in _RUN_LINK.findall(text):
        _remove_run(out / name)


def _remove_run(folder: Path) -> None:
    if not (folder / "index.html").is_file():
        return
    _remove_earlier(folder)
    for name in ("index.html", "report.md"):
        (folder / name).unlink(missing_ok=True)
    for emptied in (folder / "tables", folder / "figures", folder):
        with suppress(OSError):  # not there, or with files that somebody else put there
            emptied.rmdir()


def _write_figures(section: Section, out: Path) -> list[_Figure]:
    import matplotlib

    found = []
    for name, drawing in section.figures.items():
        with matplotlib.rc_context(_REPRODUCIBLE):
            figure = drawing.draw()
            _lay_out(figure)
            figure.savefig(out / "figures" / f"{name}.svg", metadata={"Date": None})
            figure.savefig(out / "figures" / f"{name}.png", metadata={"Software": None})
        found.append(_Figure(f"figures/{name}", drawing.caption))
    return found


def _lay_out(figure: Figure) -> None:
    """Lay out once for both files, without the solver's last digits, which depend on where objects lie in memory."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.get_axes():
        left, bottom, width, height = axes.get_position(original=True).bounds
        axes.set_position((round(left, 6), round(bottom, 6), round(width, 6), round(height, 6)))


def _html(
    title: str, sections: Sequence[Section], figures: Mapping[str, Sequence[_Figure]], faults: Sequence[str]
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dualfocus_eval.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": _shown, "interval": _interval}
    environment.tests["measured"] = lambda cell: isinstance(cell, Number | int)
    template = environment.get_template(_TEMPLATE)
    return template.render(title=title, sections=sections, figures=figures, faults=faults)


def _shown(cell: Cell) -> str:
    """A cell without its interval, which stands below it in smaller type."""
    return cell_text(replace(cell, low=math.nan, high=math.nan) if isinstance(cell, Number) else cell)


def _interval(cell: Cell) -> str:
    if not isinstance(cell, Number) or math.isnan(cell.low):
        return ""
    return f"{replace(cell, value=cell.low, low=math.nan)} to {replace(cell, value=cell.high, low=math.nan)}"


def _markdown(
    title: str, sections: Sequence[Section], figures: Mapping[str, Sequence[_Figure]], faults: Sequence[str]
) -> str:
    parts = [f"# {escaped(title)}"]
    if faults:
        parts.append("\n".join(f"- {escaped(fault)}" for fault in faults))
    for section in sections:
        parts += [f"## {section.title}", section.text]
        parts += [f"[{escaped(label)}]({target})" for label, target in section.links]
        for table in section.tables.values():
            parts += [f"### {escaped(table.title)}", to_markdown(table)]
        parts += [f"![{figure.caption}]({figure.file}.png)" for figure in figures[section.name]]
    return "\n\n".join(parts) + "\n"
