"""Wrong answers from a model behind an OpenAI-compatible server (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.gqa_choices.rules import YES_NO, GqaQuestion
from dualfocus_eval.datasets.gqa_choices.sameness import may_both_be_right

__all__ = ["DistractorModel", "UnusableReplyError"]

REQUEST = """A question about a photograph: {question}
The right answer: {answer}
Write {count} wrong answers for a multiple-choice test. Each is of the same kind and form as the right answer, is \
clearly wrong where that one is right, and is no synonym of it nor a more general or more special word for it.
Reply with a JSON list of {count} strings and nothing else."""


class UnusableReplyError(Exception):
    """A reply without enough wrong answers; the message says why."""


class DistractorModel:
    """Asks a model for distractors. Raises ``UserError`` where there is no key for its server."""

    def __init__(self, name: str, seed: int) -> None:
        import openai

        self.name, self._seed = name, seed
        self._replied = False
        try:
            self._client = openai.OpenAI()
        except openai.OpenAIError as error:
            raise UserError(f"--model {name}: {error}") from error

    def distractors(self, question: GqaQuestion, right: Iterable[str], count: int) -> list[str]:
        """``count`` wrong answers, none of which may be right where one of ``right`` is.

        Raises ``UnusableReplyError`` for a reply with fewer; ``UserError`` for a server that refuses, or that never
        answered anything. A server that fails later costs only the question.
        """
        import openai

        prompt = REQUEST.format(question=question.text, answer=question.answer, count=count)
        try:
            completion = self._client.chat.completions.create(
                model=self.name, seed=self._seed, messages=[{"role": "user", "content": prompt}]
            )
            reply = (completion.choices[0].message.content if completion.choices else None) or ""
        except openai.APIError as error:
            refused = isinstance(error, openai.APIStatusError) and error.status_code in (401, 403, 404)
            if refused or not self._replied:
                raise UserError(
                    f"--model {self.name}: question {question.question_id}: {self._client.base_url} says: {error}. "
                    "Check OPENAI_BASE_URL, OPENAI_API_KEY and the name of the model"
                ) from error
            raise UnusableReplyError(f"the server failed: {error}") from error
        self._replied = True
        usable = _usable(reply, right)
        if len(usable) < count:
            raise UnusableReplyError(f"the reply has {len(usable)} usable answers of {count}")
        return usable[:count]


def _usable(reply: str, right: Iterable[str]) -> list[str]:
    """The wrong answers of a reply, in its order."""
    try:
        entries = json.loads(reply[reply.index("[") : reply.rindex("]") + 1])
    except ValueError:
        return []
    kept: list[str] = []
    for entry in entries:
        text = " ".join(entry.split()).rstrip(".").lower() if isinstance(entry, str) else ""
        if text and text not in YES_NO and not any(may_both_be_right(text, other) for other in (*right, *kept)):
            kept.append(text)
    return kept
