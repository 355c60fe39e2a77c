"""From GQA's questions to a multiple-choice set in the layout of the published one, with each row's provenance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.datasets.fields import FieldError
from dualfocus_eval.datasets.gqa_choices.distractor_model import DistractorModel, UnusableReplyError
from dualfocus_eval.datasets.gqa_choices.rules import GqaQuestion, Pool, fixed_options, read_question

__all__ = ["build_choices"]

REQUESTS_AT_ONCE = 8


@dataclass
class Built:
    """A multiple-choice set, and what did not go as asked."""

    records: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[Rejected] = field(default_factory=list)
    short: int = 0
    """Records with fewer options than asked for, because there were no more candidates."""
    fallbacks: int = 0
    """Records that the model was asked for and the rule gave."""


def build_choices(
    questions: Mapping[str, Any],
    seed: int,
    choices: int,
    model: DistractorModel | None = None,
    on_row: Callable[[], object] = lambda: None,
) -> Built:
    """A set with up to ``choices`` options per question; the right answer's place is balanced over the set.

    Equal arguments give equal sets where no model is asked. ``on_row`` is called per question. Raises ``UserError``
    where the model's server cannot be used.
    """
    built, usable = Built(), list[GqaQuestion]()
    for question_id, record in questions.items():
        try:
            usable.append(read_question(question_id, record))
        except FieldError as error:
            built.left_out.append(Rejected(f"question {question_id}", str(error)))
    pool, places = Pool(usable), _Places(seed)
    replies = _ask(usable, pool, choices - 1, model)
    for question in usable:
        on_row()
        options, provenance = _options(question, pool, seed, choices, next(replies))
        if len(options) < 2:
            built.left_out.append(Rejected(f"question {question.question_id}", "no wrong answer of its kind is known"))
            continue
        built.short += provenance.get("rule") == "group" and len(options) < choices
        built.fallbacks += "fallback" in provenance
        wrong = options[1:]
        _rng(seed, question, "order").shuffle(wrong)
        place = places.draw(len(options))
        built.records.append(_record(question, [*wrong[:place], question.answer, *wrong[place:]], provenance))
    return built


_Reply = tuple[DistractorModel, list[str] | str] | None
"""The model with what it gave, or with why that is of no use; None where it was not asked."""


def _ask(questions: list[GqaQuestion], pool: Pool, count: int, model: DistractorModel | None) -> Iterator[_Reply]:
    def reply(question: GqaQuestion) -> _Reply:
        if model is None or fixed_options(question):
            return None
        try:
            return model, model.distractors(question, pool.right_answers(question), count)
        except UnusableReplyError as error:
            return model, str(error)

    if model is None:
        yield from (None for _ in questions)
        return
    # One by one until the server has answered once: one that cannot be used is found out at the first request.
    position = 0
    for position, question in enumerate(questions, 1):  # noqa: B007
        first = reply(question)
        yield first
        if first is not None:
            break
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as workers:
        for start in range(position, len(questions), 64 * REQUESTS_AT_ONCE):
            yield from workers.map(reply, questions[start : start + 64 * REQUESTS_AT_ONCE])


def _options(
    question: GqaQuestion, pool: Pool, seed: int, choices: int, reply: _Reply
) -> tuple[list[str], dict[str, Any]]:
    """The right answer and the wrong ones, and where these come from."""
    fixed = fixed_options(question)
    if fixed:
        rule = "alternatives" if question.alternatives == fixed else "yes_no"
        return list(fixed), {"rule": rule, "seed": seed}
    if reply is not None and not isinstance(reply[1], str):
        return [question.answer, *reply[1]], {"model": reply[0].name, "seed": seed}
    wrong = pool.distractors(question, choices - 1, _rng(seed, question, "group"))
    why = {"fallback": f"{reply[0].name}: {reply[1]}"} if reply is not None else {}
    return [question.answer, *wrong], {"rule": "group", "seed": seed, **why}


def _rng(seed: int, question: GqaQuestion, purpose: str) -> random.Random:
    return random.Random(f"gqa-mcq/{seed}/{question.question_id}/{purpose}")


class _Places:
    """Where the right answer stands: every place once, in random order, before any comes again."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"gqa-mcq/{seed}/places")
        self._left: dict[int, list[int]] = {}

    def draw(self, options: int) -> int:
        left = self._left.setdefault(options, [])
        if not left:
            left.extend(self._rng.sample(range(options), options))
        return left.pop()


def _record(question: GqaQuestion, options: list[str], provenance: dict[str, Any]) -> dict[str, Any]:
    lines = [f"{chr(ord('A') + number)}. {option}" for number, option in enumerate(options)]
    return {
        "question_id": question.question_id,
        "image": f"{question.image_id}.jpg",
        "question": "\n".join([question.text, *lines]),
        "answer": question.answer,
        "question_type": question.structural,
        "provenance": provenance,
    }
