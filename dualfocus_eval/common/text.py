"""Text of models and tasks in one form. What they write is not bounded, so everything here takes linear time."""

from __future__ import annotations

import unicodedata

__all__ = ["is_number", "nfkc"]

_MOST_MARKS = 30
"""Unicode's own limit for streams (UAX 15). Sorting more combining marks in a row takes quadratic time."""


def nfkc(text: str) -> str:
    """``text`` in Unicode's form NFKC. A run of more than 30 combining marks, which no language has, is cut there."""
    if text.isascii():
        return text
    marks = {character for character in set(text) if _is_mark(character)}
    start, run, pieces = 0, 0, []
    for place, character in enumerate(text if marks else ""):
        run = run + 1 if character in marks else 0
        if run > _MOST_MARKS:
            pieces.append(text[start:place])
            start, run = place, 1
    pieces.append(text[start:])
    return "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)


def is_number(text: str) -> bool:
    """Whether ``text`` reads as a number, NaN and infinity among them."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_mark(character: str) -> bool:
    """Whether the character's decomposition begins with a combining mark."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0
