"""A report on disk: index.html and report.md, every table as CSV and JSON, every figure as SVG and PNG."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualfocus_eval.common.escaping import markdown, markdown_target, visible
from dualfocus_eval.common.files import writing_out
from dualfocus_eval.common.tables import Cell, Number, Table, cell_text, to_csv, to_json, to_markdown
from dualfocus_eval.report.assets import inlined
from dualfocus_eval.report.folder import take_folder
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.style import PLAIN_TEXT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dualfocus_eval.report.opening import Opening

__all__ = ["write_report"]

_TEMPLATE = "page.html.jinja"
_TABLES = ("csv", "json")
_PICTURES = ("svg", "png")
_LONGEST, _LONGEST_HEADING = 500, 100
"""Characters of a text that the page shows; CSV, JSON and Markdown hold it whole."""
_CLIP = re.compile(r'(?<=url\(#)p[0-9a-f]{10}(?=\))|(?<=id=")p[0-9a-f]{10}(?=")')
_REPRODUCIBLE = {"svg.hashsalt": "dualfocus", "svg.fonttype": "path"}


@dataclass(frozen=True)
class _Figure:
    file: str
    caption: str


def write_report(
    out: Path,
    title: str,
    sections: Sequence[Section],
    faults: Sequence[str] = (),
    *,
    opening: Opening | None = None,
    beside: Sequence[str] = (),
) -> Path:
    """Write everything below ``out`` and return its index.html; empty sections are left out.

    A page with an ``opening`` begins with it; others begin with their first section. ``beside`` names further files of
    the report, relative to ``out``, which the caller writes afterwards.

    An earlier report there is replaced, and the reports of runs that it links to.

    Whatever comes from questions, answers and file names is escaped: nothing in it runs. Raises ``UserError`` where
    the folder cannot be written, or holds files of the same names that no report wrote.
    """
    sections = [section for section in sections if not section.empty]
    with writing_out(out):
        folders = (Path(target).parent.name for section in sections for _, target in section.links)
        take_folder(out, [*_files(sections), *beside], [name for name in folders if name])
        for section in sections:
            for name, table in (*section.tables.items(), *section.data.items()):
                (out / "tables" / f"{name}.csv").write_text(to_csv(table), encoding="utf-8")
                (out / "tables" / f"{name}.json").write_text(to_json(table), encoding="utf-8")
        figures = {section.name: _write_figures(section, out) for section in sections}
        (out / "report.md").write_text(_markdown(title, sections, figures, faults, opening), encoding="utf-8")
        (out / "index.html").write_text(_html(title, sections, figures, faults, opening), encoding="utf-8")
    return out / "index.html"


def _files(sections: Sequence[Section]) -> list[str]:
    tables = [f"tables/{name}.{kind}" for part in sections for name in (*part.tables, *part.data) for kind in _TABLES]
    figures = [f"figures/{name}.{kind}" for part in sections for name in part.figures for kind in _PICTURES]
    return ["index.html", "report.md", *tables, *figures]


def _write_figures(section: Section, out: Path) -> list[_Figure]:
    import matplotlib

    found = []
    for name, drawing in section.figures.items():
        with matplotlib.rc_context({**_REPRODUCIBLE, **PLAIN_TEXT}):
            figure = drawing.draw()
            _lay_out(figure)
            figure.savefig(out / "figures" / f"{name}.svg", metadata={"Date": None})
            _number_clips(out / "figures" / f"{name}.svg")
            figure.savefig(out / "figures" / f"{name}.png", metadata={"Software": None})
        found.append(_Figure(f"figures/{name}", drawing.caption))
    return found


def _number_clips(svg: Path) -> None:
    """Name the clip paths of a figure by their order: matplotlib's names are digests of the layout's last digits."""
    numbers: dict[str, str] = {}
    text = svg.read_text(encoding="utf-8")
    svg.write_text(_CLIP.sub(lambda found: numbers.setdefault(found[0], f"clip{len(numbers)}"), text), encoding="utf-8")


def _lay_out(figure: Figure) -> None:
    """Lay out once for both files, without the solver's last digits, which depend on where objects lie in memory."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.get_axes():
        left, bottom, width, height = axes.get_position(original=True).bounds
        # Four digits are a twentieth of a point; with more, two layouts of one figure are often rounded apart.
        axes.set_position((round(left, 4), round(bottom, 4), round(width, 4), round(height, 4)))


def _html(
    title: str,
    sections: Sequence[Section],
    figures: Mapping[str, Sequence[_Figure]],
    faults: Sequence[str],
    opening: Opening | None,
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dualfocus_eval.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": _shown,
        "interval": _interval,
        "bracketed": lambda text: f"({text})" if text else "",
        "coordinate": lambda value: f"{value:.2f}",
        "exact": _exact,
        "breakable": _breakable,
        "numeric_columns": _numeric_columns,
    }
    environment.tests["measured"] = _is_measured
    template = environment.get_template(_TEMPLATE)
    return template.render(
        title=title, sections=sections, figures=figures, faults=faults, opening=opening,
        style=inlined("base.css", "page.css"), script=inlined("page.js"),
    )  # fmt: skip


def _harmless(value: Any) -> Any:
    """What the template shows: texts as `visible`; what is marked as markup is this package's own."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _breakable(heading: str) -> str:
    """A heading as markup that may be broken after an underscore, and not before the star of the rule that decided."""
    from markupsafe import Markup, escape

    text = visible(_shown(heading, _LONGEST_HEADING)).replace(" *", "\u00a0*")
    return Markup("_<wbr>").join(map(escape, text.split("_")))


def _is_measured(cell: Cell) -> bool:
    return isinstance(cell, Number | int)


def _numeric_columns(table: Table) -> list[bool]:
    """Whether a column is of numbers, as right-aligned ones are, and not of texts with some numbers among them."""
    columns = [[row[place] for row in table.rows] for place in range(len(table.header))]
    return [
        place > 0 and sum(map(_is_measured, column)) > sum(isinstance(cell, str) for cell in column)
        for place, column in enumerate(columns)
    ]


def _exact(cell: Cell) -> str:
    """The number by which a cell is sorted; empty where there is none."""
    value = cell.value if isinstance(cell, Number) else cell
    return "" if not isinstance(value, int | float) or math.isnan(value) else repr(value)


def _shown(cell: Cell, longest: int = _LONGEST) -> str:
    """A cell without its interval, which stands below it in smaller type; of a long text its beginning."""
    text = cell_text(replace(cell, low=math.nan, high=math.nan) if isinstance(cell, Number) else cell)
    return text if len(text) <= longest else f"{text[:longest]} ... ({len(text):,} characters)"


def _interval(cell: Cell) -> str:
    if not isinstance(cell, Number) or math.isnan(cell.low):
        return ""
    return f"{replace(cell, value=cell.low, low=math.nan)} to {replace(cell, value=cell.high, low=math.nan)}"


def _markdown(
    title: str,
    sections: Sequence[Section],
    figures: Mapping[str, Sequence[_Figure]],
    faults: Sequence[str],
    opening: Opening | None,
) -> str:
    parts = [f"# {markdown(title)}"]
    if opening:
        parts.append(markdown(opening.sentence))
        parts.append("\n".join(f"- {markdown(result.line)}" for result in opening.results))
        parts += map(markdown, opening.notes)
    if faults:
        parts.append("\n".join(f"- {markdown(fault)}" for fault in faults))
    for section in sections:
        parts += [f"## {markdown(section.title)}", markdown(section.text)]
        parts += [f"[{markdown(label)}]({markdown_target(target)})" for label, target in section.links]
        for table in section.tables.values():
            parts += [f"### {markdown(table.title)}", to_markdown(table)]
        parts += [
            f"![{markdown(figure.caption)}]({markdown_target(figure.file)}.png)" for figure in figures[section.name]
        ]
    return "\n\n".join(parts) + "\n"
