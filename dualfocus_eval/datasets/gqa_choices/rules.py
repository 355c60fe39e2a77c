"""Wrong answers by rule, out of GQA's annotations alone.

A yes-or-no question has these two options. A question that names its alternatives ("red or blue?") has just these:
any other option could be right as well. All others draw from the answers that GQA gives to questions of the same kind:
same semantic type and local group first, then same global group, and same detailed type where there is no such group.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualfocus_eval.datasets.fields import FieldError, identifier, mapping, optional_text, text, texts
from dualfocus_eval.datasets.gqa import check_question
from dualfocus_eval.datasets.gqa_choices.sameness import may_both_be_right

__all__ = ["YES_NO", "GqaQuestion", "Pool", "fixed_options", "read_question"]

YES_NO = ("yes", "no")
OBJECTS = frozenset({"rel", "cat", "obj"})
"""Semantic types whose answers name things in the image: all such names of one image may be right."""


@dataclass(frozen=True)
class GqaQuestion:
    """What distractors depend on."""

    question_id: str
    image_id: str
    text: str
    answer: str
    structural: str
    semantic: str
    detailed: str
    global_group: str
    local_group: str
    equivalent: tuple[str, ...]
    """Ids of the questions that GQA holds to ask the same."""
    alternatives: tuple[str, ...]
    """What the question itself offers to choose from, the answer among it; empty where it offers nothing."""


def read_question(question_id: str, record: Any) -> GqaQuestion:
    """GQA's entry. Raises ``FieldError`` that says what it lacks."""
    check_question(record)
    types, groups = mapping(record, "types"), mapping(record, "groups")
    answer, structural = _line(text(record, "answer")), text(types, "structural")
    return GqaQuestion(
        question_id=question_id,
        image_id=identifier(record, "imageId"),
        text=_line(text(record, "question")),
        answer=answer,
        structural=structural,
        semantic=optional_text(types, "semantic") or "",
        detailed=optional_text(types, "detailed") or "",
        global_group=optional_text(groups, "global") or "",
        local_group=optional_text(groups, "local") or "",
        equivalent=tuple(texts(record, "equivalent")),
        alternatives=_alternatives(_program(record), answer) if structural in ("choose", "compare") else (),
    )


def _program(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Operation and argument of every step of GQA's functional program."""
    steps = record.get("semantic")
    if steps is None:
        return []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise FieldError("semantic is not a list of objects")
    return [(optional_text(step, "operation") or "", optional_text(step, "argument") or "") for step in steps]


def _line(value: str) -> str:
    return " ".join(value.split())


def _without_object_id(argument: str) -> str:
    """``apple`` of ``apple (1234)``."""
    name = argument.rstrip()
    opening = name.find("(", name[:-1].rfind(")") + 1)
    return name[:opening].rstrip() if name.endswith(")") and opening >= 0 else argument


def _alternatives(program: Iterable[tuple[str, str]], answer: str) -> tuple[str, ...]:
    """From GQA's functional program: ``choose``'s ``red|blue``, or the names of the objects that are compared."""
    selected: list[str] = []
    for operation, argument in program:
        named = _without_object_id(argument)
        if operation == "select":
            selected.append(named)
        elif operation.startswith("choose") and "|" in named:
            choices = next(part for part in named.split(",") if "|" in part)
            return _with_answer(_differing([choice.strip() for choice in choices.split("|")]), answer)
    return _with_answer(selected, answer)


def _differing(choices: list[str]) -> list[str]:
    """``to the left of``, ``to the right of``: what GQA answers to these is the words in which they differ."""
    words = [choice.split() for choice in choices]
    while all(len(entry) > 1 for entry in words) and len({entry[0] for entry in words}) == 1:
        words = [entry[1:] for entry in words]
    while all(len(entry) > 1 for entry in words) and len({entry[-1] for entry in words}) == 1:
        words = [entry[:-1] for entry in words]
    return [" ".join(entry) for entry in words]


def _with_answer(names: Sequence[str], answer: str) -> tuple[str, ...]:
    """``names``, if these are different options and the answer is one; the answer in its own spelling."""
    options: list[str] = []
    for name in (answer, *names):
        if name and name.casefold() not in (option.casefold() for option in options):
            options.append(name)
    offered = answer.casefold() in (name.casefold() for name in names)
    return tuple(options) if offered and len(options) > 1 else ()


def fixed_options(question: GqaQuestion) -> tuple[str, ...]:
    """The options of a question that leaves no choice of them, the answer first; empty for any other."""
    if question.answer.casefold() in YES_NO:
        return (question.answer, YES_NO[1 - YES_NO.index(question.answer.casefold())])
    return question.alternatives


class Pool:
    """The answers of a whole set, by the groups in which they are each other's distractors."""

    def __init__(self, questions: Sequence[GqaQuestion]) -> None:
        self._answers: dict[tuple[str, ...], set[str]] = defaultdict(set)
        self._asked: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._named: dict[str, set[str]] = defaultdict(set)
        self._by_id = {question.question_id: question for question in questions}
        for question in questions:
            self._asked[_asked(question)].add(question.answer)
            if question.answer.casefold() in YES_NO:
                continue
            if question.semantic in OBJECTS:
                self._named[question.image_id].add(question.answer)
            for tier in _tiers(question):
                self._answers[tier].add(question.answer)

    def right_answers(self, question: GqaQuestion) -> set[str]:
        """The answer and all others that GQA says, or may say, are right for this question about this image."""
        right = {question.answer} | self._asked[_asked(question)]
        right.update(self._by_id[other].answer for other in question.equivalent if other in self._by_id)
        return right | self._named[question.image_id] if question.semantic in OBJECTS else right

    def distractors(self, question: GqaQuestion, count: int, rng: random.Random) -> list[str]:
        """Up to ``count`` wrong answers, no two of which may both be right."""
        right, chosen = self.right_answers(question), list[str]()
        for candidate in self._candidates(question, rng):
            if len(chosen) == count:
                break
            if not any(may_both_be_right(candidate, other) for other in (*right, *chosen)):
                chosen.append(candidate)
        return chosen

    def _candidates(self, question: GqaQuestion, rng: random.Random) -> Iterator[str]:
        for tier in _tiers(question):
            answers = sorted(self._answers[tier])
            rng.shuffle(answers)
            yield from answers


def _asked(question: GqaQuestion) -> tuple[str, str]:
    return question.image_id, " ".join(re.findall(r"\w+", question.text.casefold()))


def _tiers(question: GqaQuestion) -> Iterator[tuple[str, ...]]:
    if question.local_group:
        yield ("local", question.semantic, question.local_group)
    if question.global_group:
        yield ("global", question.semantic, question.global_group)
    else:
        yield ("detailed", question.semantic, question.detailed)
