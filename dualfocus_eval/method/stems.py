"""The bare question in a task's full prompt: without options, format hints and what stands before it."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dualfocus_eval.method.marks import IMAGE_MARK
from dualfocus_eval.method.prompts import LETTER_HINT, WORD_HINT

__all__ = ["POST_PROMPTS", "stem_of", "without_post_prompts"]

POST_PROMPTS = (
    WORD_HINT,
    "Please answer the question using a single word or phrase.",
    LETTER_HINT,
    "Answer the option letter directly.",
    "Please answer directly with only the letter of the correct option and nothing else.",
    "Please answer directly with a single word or number.",
    "Please select the correct answer from the options above.",
    "Please answer yes or no.",
    "Answer yes or no.",
)
"""Format hints at the end of common benchmarks' prompts; their full stop may be missing."""
_OPTION = re.compile(r"^[ \t]*(?:(?:Options|Choices):[ \t]*)?\(?([A-Z])[.):][ \t]*(?=\S)", re.MULTILINE)
_MOST_OPTIONS = 26
_LINE_END = re.compile(r"\n")
_EMPTY_LINE = re.compile(r"\n\s*\n")
_HEADING = re.compile(
    r"(?:^|(?<=\s))"
    r"(?:There are several options|The (?:options|choices) are(?: listed)?(?: below| as follows)?|Options|Choices):\s*$"
)
"""What announces the options, at the end of the text before them."""
_LISTED = re.compile(
    r"(?:(?:^|(?<=\s))(?:Options|Choices):[ \t]*(?=\(?A[.):]\s)|(?:^|(?<=[?.:!]))[ \t]*(?=\(A\)\s))(\(?)A([.):])",
    re.MULTILINE,
)
"""The first of several options in one line: after a heading, or bracketed after the question has ended."""
_REFERENCE = re.compile(r"\nReference OCR token:[^\n]*$")
"""TextVQA's tokens, between question and format hint."""
_QUESTION = re.compile(r"^[ \t]*Question:", re.MULTILINE)
_CONTEXT = re.compile(r"(?:Context|Hint):")
_SENTENCE_END = re.compile(r"(?<=[.?!:])\s|\n")
_INSTRUCTION = re.compile(
    r"(?:(?:please|only|just|directly|then|and)\s+)*"
    r"(?:(?:(?:answer|respond|reply|select|choose|pick|give|provide|return|output|solve)\b|your task is to answer\b"
    r"|your (?:answer|response) (?:should|must) be\b).*"
    r"(?:\bletters?\b|\boption(?:['’]s)? number|\bsingle (?:word|number|integer|character|digit|phrase)"  # noqa: RUF001
    r"|\bword or (?:short )?phrase|\bthe question\b|\b(?:given|following|above|correct|corresponding|best) (?:answer|"
    r"options?|choices?|format)\b|\boptions? above|\byes or no\b|\bdirectly\b|\bstep by step\b)"
    r"|(?:the |your )?(?:(?:best|final|correct) )?(?:answer|option)(?: is)?:|(?:let['’]s )?think step by step\b"  # noqa: RUF001
    r"|(?:do not|don['’]t|no need to) (?:explain|include|provide|output|add|give)\b|assistant:)",  # noqa: RUF001
    re.IGNORECASE,
)
"""A sentence at the beginning or end of a prompt that says how to answer, or that begins the answer."""
_LONGEST_INSTRUCTION = 400
_ROUNDS = 8
"""Prompts need three at most; the bound keeps texts that are made of nothing but hints and options linear."""


class StemAndOptions(NamedTuple):
    """The bare question, and the option texts in the order of their letters."""

    stem: str
    options: tuple[str, ...]


def stem_of(prompt: str, post_prompts: Sequence[str] = POST_PROMPTS, pre_prompts: Sequence[str] = ()) -> StemAndOptions:
    """The bare question in a task's full prompt without image marks, and its options.

    Cut off are

    - leading ``pre_prompts`` (``{}`` in them stands for anything within a line), trailing
      ``post_prompts``, sentences at both ends that say how to answer, and reference OCR tokens;
    - the options with the heading that announces them and what stands after them; where they come first, the question
      is what follows. They are at least two, lettered A, B, ..., each in lines of its own or all in one line;
    - what the prompt marks as standing before the question: all before the last line that begins with ``Question:``, or
      all but the last line where the text begins with ``Context:`` or ``Hint:``.

    A prompt that is nothing but options and format hints has an empty stem.
    """
    text = prompt.strip()
    options: tuple[str, ...] = ()
    for _ in range(_ROUNDS):
        bare = _without_instructions(without_post_prompts(_without_pre_prompts(text, pre_prompts), post_prompts))
        shorter, found = _without_options(_REFERENCE.sub("", bare))
        shorter = _without_context(shorter.strip()).strip()
        options = options or found
        if shorter == text:
            break
        text = shorter
    return StemAndOptions(text, options)


def without_post_prompts(text: str, post_prompts: Sequence[str] = POST_PROMPTS) -> str:
    """``text`` without the format hints at its end."""
    known, end = _longest_first(tuple(post_prompts)), len(text)
    while True:
        closed = _end_before(text, end, ".".__eq__)
        ending = next((post for post in known if text.endswith(post, 0, closed)), None)
        if ending is None:
            return text[:end]
        end = _end_before(text, closed - len(ending), str.isspace)


def _end_before(text: str, end: int, left_out: Callable[[str], bool]) -> int:
    """Where ``text[:end]`` ends without the characters at its end that are left out."""
    while end and left_out(text[end - 1]):
        end -= 1
    return end


@functools.cache
def _longest_first(post_prompts: tuple[str, ...]) -> list[str]:
    return sorted({post.strip().rstrip(".") for post in post_prompts} - {""}, key=len, reverse=True)


def _without_pre_prompts(text: str, pre_prompts: Sequence[str]) -> str:
    for pre_prompt in pre_prompts:
        pieces = [re.escape(piece) for piece in pre_prompt.replace(IMAGE_MARK, "").strip().split("{}")]
        if any(pieces) and (found := re.match(r"[^\n]{0,200}?".join(pieces), text)) and text[found.end() :].strip():
            return text[found.end() :].lstrip()
    return text


def _without_instructions(text: str) -> str:
    """``text`` without the sentences at its ends that say how to answer; at least one sentence is left."""
    bounds = [0, *(end.end() for end in _SENTENCE_END.finditer(text)), len(text)]
    first, last = 0, len(bounds) - 1
    while last - first > 1 and _instructs(text, bounds[last - 1], bounds[last]):
        last -= 1
    while last - first > 1 and _instructs(text, bounds[first], bounds[first + 1]):
        first += 1
    left = text[bounds[first] : bounds[last]].strip()
    return left or text


def _instructs(text: str, start: int, end: int) -> bool:
    sentence = text[start:end].strip()
    if len(sentence) > _LONGEST_INSTRUCTION or "?" in sentence:
        return False
    return not sentence or bool(_INSTRUCTION.match(sentence))


def _without_context(text: str) -> str:
    questions = list(_QUESTION.finditer(text))
    if questions:
        return text[questions[-1].end() :]
    # Contexts often run over several lines, questions hardly ever.
    return text.rpartition("\n")[2] if _CONTEXT.match(text) else text


def _without_options(text: str) -> StemAndOptions:
    found = _options_in_lines(text) or _options_in_one_line(text)
    if found is None:
        return StemAndOptions(text, ())
    start, end, options = found
    before, after = _HEADING.sub("", text[:start].rstrip()).rstrip(), text[end:].lstrip()
    # What follows the options says how to answer, unless it is the question itself.
    asks_after = not before or bool(_QUESTION.search(after)) or ("?" in after and "?" not in before)
    return StemAndOptions(after if asks_after else before, options)


def _options_in_lines(text: str) -> tuple[int, int, tuple[str, ...]] | None:
    """Where in ``text`` the first options that each begin a line start and end, and what they say.

    An option runs on to the next letter, but not over an empty line within it. Where any takes several lines, as code
    does, the last one too runs on to the next empty line.
    """
    marks = list(_OPTION.finditer(text))
    for first, mark in enumerate(marks):
        run: list[re.Match[str]] = []
        for following in marks[first : first + _MOST_OPTIONS]:
            gap = text[run[-1].end() : following.start()].rstrip() if run else ""
            if following[1] != chr(ord("A") + len(run)) or _EMPTY_LINE.search(gap):
                break
            run.append(following)
        if len(run) < 2:
            continue
        options = [text[one.end() : other.start()].rstrip() for one, other in itertools.pairwise(run)]
        ending = _EMPTY_LINE if any("\n" in option for option in options) else _LINE_END
        last = run[-1].end()
        stop = ending.search(text, last)
        end = stop.start() if stop else len(text)
        return mark.start(), end, (*options, text[last:end].rstrip())
    return None


def _options_in_one_line(text: str) -> tuple[int, int, tuple[str, ...]] | None:
    """The same for options that are listed in one line."""
    listed = _LISTED.search(text)
    if listed is None:
        return None
    stop = _LINE_END.search(text, listed.end())
    end = stop.start() if stop else len(text)
    line = text[listed.start(1) : end]
    opening, closing = map(re.escape, listed.groups())
    run: list[re.Match[str]] = []
    for mark in re.finditer(rf"(?:^|(?<=[\s,;])){opening}([A-Z]){closing}\s", line):
        if mark[1] == chr(ord("A") + len(run)):
            run.append(mark)
    starts = [*(mark.start() for mark in run), len(line)]
    options = tuple(line[mark.end() : after].strip(" \t,;") for mark, after in zip(run, starts[1:], strict=True))
    return (listed.start(), end, options) if len(options) > 1 and all(options) else None
