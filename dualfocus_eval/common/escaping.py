"""Text that comes from files, made harmless for the medium that shows it: a function per medium.

Prompts, answers, task names, settings and file names may hold anything. HTML is escaped by its template, which also
shows every text as `visible`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any
from urllib.parse import quote

from dualfocus_eval.common.text import is_number

__all__ = [
    "clipped", "csv_cell", "figure_text", "github_message", "json_number", "json_text", "markdown", "markdown_target",
    "one_line", "visible", "xml_text",
]  # fmt: skip

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, separators of lines, marks that turn the direction of writing, and halves
of characters."""
_COMMAND = re.compile(r"(?:^|(?<=\s)):(?=:)|#(?=#\[)")
"""How a line begins that GitHub's runner obeys (``::error::``), wherever a line may be broken, and the older form
(``##[error]``), which it obeys anywhere."""
_MARKED = re.compile(r"[\\`|\[\]$]")
_BLOCK = re.compile(r"^(?=[>#]|~~~|[-+*](?:[-+*\s]|$))|^(\d{1,9})(?=[.)](?:\s|$))")
"""What begins a quotation, a heading, a fence, a list or a rule in Markdown."""
_ADDRESS = re.compile(r"(?<=\w):(?=//)|(?<=www)\.", re.IGNORECASE)
_FORMULA = re.compile("[=+\\-@\t\n\uff1d\uff0b\uff0d\uff20].", re.DOTALL)
"""What spreadsheets compute; the last four are the wide forms of the first."""
_ILLEGAL_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def visible(text: str) -> str:
    """``text``, its characters that act on a terminal or a page unseen written as ``\\x1b`` or ``\\u202e``."""
    return _UNSEEN.sub(_code, text)


def one_line(text: str, encoding: str = "utf-8") -> str:
    """``text`` for a terminal or the log of a CI job: `visible`, on one line, no command of GitHub's runner in it.
    Characters that ``encoding`` does not have are written by their codes."""
    line = _COMMAND.sub(_code, visible(text).replace("\n", "\\x0a"))
    return line.encode(encoding, "backslashreplace").decode(encoding)


def clipped(text: str, width: int = 40) -> str:
    """``text``, its blanks single, as `one_line` of at most ``width`` characters."""
    line = one_line(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 3] + "..."


def github_message(text: str, encoding: str = "utf-8") -> str:
    """``text`` as the message of a workflow command, of which ``%`` begins an escape."""
    line = visible(text).replace("%", "%25").replace("\n", "%0A")
    return line.encode(encoding, "backslashreplace").decode(encoding)


def markdown(text: str) -> str:
    """``text``, `visible`, in one line of Markdown: no HTML in it runs, and no table cell, link, formula,
    heading, list or fence begins or ends."""
    plain = visible(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _ADDRESS.sub(r"\\\g<0>", _MARKED.sub(r"\\\g<0>", plain))
    return _BLOCK.sub(lambda found: f"{found[1] or ''}\\", plain)


def markdown_target(path: str) -> str:
    """A relative path as the target of a link in Markdown."""
    return quote(path)


def csv_cell(text: str) -> str:
    """``text``, `visible`, as a cell that no spreadsheet takes for a formula; a text that is a number stays one."""
    shown = visible(text)
    return f"'{shown}" if _FORMULA.match(shown) and not is_number(shown) else shown


def xml_text(text: str) -> str:
    """``text``, `visible`, without the characters that no XML document may hold, not even escaped."""
    return _ILLEGAL_XML.sub("\ufffd", visible(text))


def figure_text(text: str) -> str:
    """``text``, `visible`, on one line of a figure; `report.style.PLAIN_TEXT` keeps ``$`` from beginning a formula."""
    return visible(" ".join(text.split()))


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON in readable Unicode; what is not `visible`, or what no file can hold, is written as codes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def json_number(value: float | None) -> float | None:
    """``value`` for JSON, which has no NaN and no infinity: None stands for both."""
    return value if value is not None and math.isfinite(value) else None


def _code(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
