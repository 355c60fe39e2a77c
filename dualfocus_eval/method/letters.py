r"""Which option an answer names: by its letter in any of the forms that models write, or by the option's own text.

A letter is read only where it is the whole answer or set off from the rest of it. An answer can name a letter in three
places: at its beginning (``B``, ``**B.** red``, ``I think the answer is B``), in its last sentence, behind words that
announce it (``It is red. So the answer is B.``), and in a mark of its own (``\boxed{B}``). Different letters there, or
several in one place (``B or C``), name none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dualfocus_eval.common.text import nfkc

__all__ = ["named_option", "option_index"]

_LATEX = re.compile(r"\\(?:boxed|fbox|text(?:bf|rm|sf|tt)?|math(?:bf|rm|sf))\s*\{([^{}]*)\}")
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|`{1,3}|\${1,2})(?=\S)([^*_`$\n]+)\1")
_BLOCK = re.compile(r"^(?:[-*>]|#{1,6}) |\\[()\[\]]", re.MULTILINE)
"""Marks of a heading, list or quotation before a line, and LaTeX's around a formula."""
_DEEPEST = 3
"""Marks within marks: ``$\\boxed{\\text{B}}$``."""
_MARKED = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)?)\}|<answer>([^<]*)</answer>", re.IGNORECASE)
_LONGEST_SENTENCE = 200
"""Characters at the end of an answer, in which a sentence that announces the letter is looked for."""

# Of blanks there is never more than one in a row here.
_OPENING = (
    r"(?:(?:so|thus|hence|therefore|sure|finally|overall)[,!:]?\s|(?:based on|looking at|given|from) [^.,\n]{1,80},\s)?"
)
_SPEAKER = r"(?:(?:(?:i|we) (?:think|believe|guess|conclude|would say)|i['’]d say)(?: that)?,?\s)?"  # noqa: RUF001
_NAME = r"(?:option|choice|letter)"
_CHOOSING = r"(?:i|we)(?:['’]d|['’]ll| would| will)? (?:choose|select|pick|go with|answer)\s"  # noqa: RUF001
_POINTING = rf"(?:it is|it['’]s|this is)\s(?=(?:the )?{_NAME})(?:the )?"  # noqa: RUF001
_ANSWER = (
    r"(?:(?:the|my)\s)?(?:(?:final|correct|right|best)\s)*(?:answer|ans|option|choice|letter)(?: to the question)?"
    r"(?:\s(?:is|would be|should be|must be)\b)?\s?(?:[:.-]\s?)?"
)
_ANNOUNCED = rf"{_OPENING}{_SPEAKER}(?:{_CHOOSING}|{_POINTING}|{_ANSWER})(?:{_NAME}\s)?"

_LETTER = (
    r"(?P<quote>[\"'“‘«「])?[(\[{【]{0,2}(?P<inner>[\"'“‘])?(?P<letter>[a-z])"  # noqa: RUF001
    r"(?(inner)[\"'”’])[)\]}】.:,;!]{0,3}(?(quote)[\"'”’»」])[)\]}】.:,;!?。…]*"  # noqa: RUF001
)
_SET_OFF = (
    r"(?:$|\s\W*$|\n|(?<=[)\]}】.:,;!])\s|\s[-–—]\s|\s(?:because|since)\b|\sis (?:the )?(?:correct|right|best)\b)"  # noqa: RUF001
)
_FIRST = re.compile(rf"(?:{_ANNOUNCED}|{_OPENING}{_SPEAKER})?{_LETTER}{_SET_OFF}", re.IGNORECASE)
_LAST = re.compile(rf"(?:^|(?<=[\n.!?:]))\s?{_ANNOUNCED}{_LETTER}$", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_ONE_LETTER = re.compile(r"[^\W_]\.?")
_LONG_WORD = re.compile(r"[^\W_]{2}")
_OPTION_B = re.compile(r"(?<!\S)\(?B[.):](?=\s)")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "[": "]"}  # noqa: RUF001


def named_option(text: str, options: Sequence[str]) -> int | None:
    """The option that an answer names, from 0: by its letter, or by being the text of exactly one of ``options``.

    Case, a full stop and enclosing marks aside. None where it names none. An answer that is an option's text with
    a longer word than a letter means that option, also where it begins like a letter (``C. S. Lewis``).
    """
    spelled = [_spelled(option) for option in options]
    forms = (_spelled(text), _spelled(_unquoted(_plain(nfkc(text)).removesuffix("."))))
    found = next((spelled.index(form) for form in forms if form and spelled.count(form) == 1), None)
    if found is not None and _LONG_WORD.search(spelled[found]):
        return found
    index = option_index(text, len(options))
    return found if index is None else index


def option_index(text: str, options: int) -> int | None:
    r"""The option that an answer names by its letter, from 0; None without a letter or with one beyond ``options``.

    The letter stands alone, or is set off or announced: ``B``, ``b.``, ``(B)``, ``**B**``, ``B: red``, ``Answer: B``,
    ``\boxed{B}``, ``I think the answer is B``, or in a line of its own before a reason. Words that begin with a letter
    (``Blue``, ``a dog``) name no option, nor do several letters (``B or C``).
    """
    letters = set(_letters(nfkc(text).strip(), options))
    if len(letters) != 1:
        return None
    index = _index(letters.pop())
    return index if index < options else None


def _letters(text: str, options: int) -> Iterator[str]:
    """The letters that the places of an answer name, in capitals."""
    for marked in _MARKED.finditer(text):
        yield from _leading(_plain(marked[1] or marked[2] or ""), options)
    plain = _plain(_MARKED.sub(lambda marked: marked[1] or marked[2] or "", text))
    yield from _leading(plain, options)
    if last := _LAST.search(plain, max(0, len(plain) - _LONGEST_SENTENCE)):
        yield last["letter"].upper()


def _leading(plain: str, options: int) -> Iterator[str]:
    """The letter at the beginning; none where the answer is a list of letters or repeats the options."""
    plain = _unquoted(plain)
    first = _FIRST.match(plain)
    if first is None:
        return
    letter, rest = first["letter"].upper(), plain[first.end() :]
    words = _WORD.findall(rest[:_LONGEST_SENTENCE])
    # An option's text may be a letter: ``B. X``.
    with_text = bool(_ONE_LETTER.fullmatch(rest)) and first[0].rstrip().endswith((".", ":", ")"))
    if words and not with_text and all(word.lower() in ("and", "or") or _is_letter(word, options) for word in words):
        return
    if letter == "A" and _OPTION_B.search(rest):
        return
    yield letter


def _is_letter(word: str, options: int) -> bool:
    return len(word) == 1 and 0 <= _index(word.upper()) < options


def _index(letter: str) -> int:
    return ord(letter) - ord("A")


def _plain(text: str) -> str:
    """Without empty lines, blanks in a row, and the marks of LaTeX and Markdown, which set off what they enclose."""
    text = "\n".join(words for line in text.splitlines() if (words := " ".join(line.split())))
    text = _BLOCK.sub("", text)
    for _ in range(_DEEPEST):
        text = _EMPHASIS.sub(r"\2", _LATEX.sub(r"\1", text))
    return text.strip()


def _unquoted(text: str) -> str:
    """The text within quotation marks or square brackets that enclose all of it."""
    closing, inner = _QUOTES.get(text[:1]), text[1:-1]
    return inner.strip() if closing and text.endswith(closing) and closing not in inner and inner else text


def _spelled(text: str) -> str:
    return nfkc(text).strip().removesuffix(".").rstrip().casefold()
