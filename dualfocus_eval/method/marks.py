"""The mark ``<image>``, by which prompts and training samples say where a picture stands."""

from __future__ import annotations

__all__ = ["IMAGE_MARK", "cut_at_marks"]

IMAGE_MARK = "<image>"


def cut_at_marks(text: str) -> tuple[str | None, ...]:
    """The texts between the marks in ``text``, and None for each mark.

    Blank texts are left out, and so is the white space around all of it. A text without marks comes back as it is.
    """
    texts: list[str] = text.split(IMAGE_MARK)
    written = [number for number, piece in enumerate(texts) if piece.strip()]
    if len(texts) == 1:
        return (text,)
    if written:
        texts[written[0]] = texts[written[0]].lstrip()
        texts[written[-1]] = texts[written[-1]].rstrip()
    pieces: list[str | None] = []
    for number, piece in enumerate(texts):
        pieces += [None] * (number > 0) + [piece] * (number in written)
    return tuple(pieces)
