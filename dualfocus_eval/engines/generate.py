"""The engine for every model that transformers loads: the checkpoint's processor and ``model.generate`` as they are.

It knows nothing of a model but that it generates. Every conversation is computed whole, in batches padded on the left.
Tokens are chosen by the rules of the in-process engine, and a continuation is scored by generating it: the token that
comes next is given, and its log-probability noted. So a score is what `generate` would have given, whatever masks,
positions or states the model needs.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from transformers import BatchFeature

from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.batch_inputs import BatchInputs, BatchPreparer, Prepared
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.choosing import Chooser, not_finite
from dualfocus_eval.engines.device_memory import is_device_failure, is_out_of_memory
from dualfocus_eval.engines.generation_loop import ForcedLoop, GenerationLoop, GreedyLoop
from dualfocus_eval.engines.local import LocalEngine
from dualfocus_eval.engines.template import ChatTemplate, RenderingError

__all__ = ["GenerateEngine"]

R = TypeVar("R", Completion, Score)
Found = list[tuple[int, R | Failure]]
RunBatch = Callable[[Sequence["_Row"], BatchInputs], Found[R]]


@dataclass(frozen=True, eq=False)
class _Row:
    """A conversation on its way through the model."""

    index: int
    prepared: Prepared
    request: GenerateRequest | ScoreRequest


class GenerateEngine(LocalEngine):
    """Runs a checkpoint of any architecture that `transformers.AutoModelForImageTextToText` loads."""

    def __init__(self, checkpoint: Checkpoint, max_conversations: int) -> None:
        super().__init__(checkpoint, max_conversations)
        self._template = ChatTemplate.of(checkpoint)
        self._preparer = BatchPreparer(self._template, pad_id=checkpoint.default_end_id)
        self._chooser = Chooser(checkpoint)

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """Greedy completions in the order of the requests; see ``Engine.generate``."""
        results: dict[int, Completion | Failure] = {}
        rows = self._prepare(requests, results)
        results.update({row.index: Completion("", (), (), "length") for row in rows if not _asks(requests[row.index])})
        rows = [row for row in rows if _asks(requests[row.index])]
        self._run(rows, results, lambda chunk: self._through(chunk, self._generate_batch))
        return [results[index] for index in range(len(requests))]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        """Log-probabilities of given continuations, from the raw logits; see ``Engine.score``."""
        results: dict[int, Score | Failure] = {}
        rows = self._prepare(requests, results)
        results.update({row.index: Score((), ()) for row in rows if not requests[row.index].continuation})
        rows = [row for row in rows if requests[row.index].continuation]
        self._run(rows, results, lambda chunk: self._through(chunk, self._score_batch))
        return [results[index] for index in range(len(requests))]

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Token ids of ``text`` as the answer to ``conversation``, the checkpoint's end token at its end."""
        return self._template.answer_ids(conversation, text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        """Not known for a model of which only its processor is: raises ``UserError``."""
        raise UserError(
            f"{self.checkpoint.name}: the size to which the processor resizes an image is not known for model_type "
            f"{self.family.model_type!r}; choose a box_convention that is not in pixels of the resized image"
        )

    def prompt_ids(self, conversation: Conversation) -> tuple[int, ...]:
        """The prompt as the model gets it, image tokens expanded. Raises what `_preparer` raises."""
        return self._preparer.batch([self._preparer.prepared(conversation)]).prompt_ids[0]

    def variant(self, max_conversations: int, *, reuse: bool) -> GenerateEngine:
        """See ``LocalEngine.variant``."""
        return GenerateEngine(self.checkpoint, max_conversations)

    def _prepare(self, requests: Sequence[GenerateRequest | ScoreRequest], results: dict[int, Any]) -> list[_Row]:
        """Rows of the requests that can be rendered, similar ones together; failures of the others go into results."""
        rows: list[_Row] = []
        with self._timed("preprocess"):
            for index, request in enumerate(requests):
                try:
                    rows.append(
                        _Row(index, self._preparer.prepared(request.conversation, request.answers_at_once), request)
                    )
                except RenderingError as error:
                    results[index] = Failure(error.kind, str(error))
        return sorted(rows, key=lambda row: (len(row.prepared.pictures), len(row.prepared.text)))

    def _through(self, chunk: Sequence[_Row], run: RunBatch[R]) -> Found[R]:
        """What ``run`` makes of the rows of ``chunk``, in batches with equal numbers of images."""
        found: Found[R] = []
        for _, group in itertools.groupby(chunk, key=lambda row: len(row.prepared.pictures)):
            found += self._batch(list(group), run)
        return found

    def _batch(self, rows: Sequence[_Row], run: RunBatch[R]) -> Found[R]:
        """What ``run`` makes of ``rows`` in one batch; where one of them provokes an error, of each alone."""
        try:
            with self._timed("preprocess"):
                inputs = self._preparer.batch([row.prepared for row in rows])
            too_long: dict[int, Failure] = self._too_long(rows, inputs)
            if too_long:
                found: Found[R] = list(too_long.items())
                fitting = [row for row in rows if row.index not in too_long]
                return found + self._batch(fitting, run) if fitting else found
            self._counters.images_encoded += sum(len(row.prepared.pictures) for row in rows)
            return run(rows, inputs)
        except Exception as error:  # whatever one image provokes must not end the others
            if is_out_of_memory(error) or is_device_failure(error):
                raise
            problem = first_line(error)
        if len(rows) > 1:
            return [one for row in rows for one in self._batch([row], run)]
        return [(rows[0].index, Failure("bad_input", f"processor or model cannot take the conversation: {problem}"))]

    def _too_long(self, rows: Sequence[_Row], inputs: BatchInputs) -> dict[int, Failure]:
        """By index the rows that have more tokens than the model takes."""
        limit = self.checkpoint.max_positions
        lengths = [len(ids) + _given(row.request) for row, ids in zip(rows, inputs.prompt_ids, strict=True)]
        return {
            row.index: Failure("too_long", f"{length} tokens; the model takes less than {limit}")
            for row, length in zip(rows, lengths, strict=True)
            if length >= limit
        }

    def _generate_batch(self, rows: Sequence[_Row], inputs: BatchInputs) -> Found[Completion]:
        answers = [
            self._chooser.answer(ids, row.request)
            for row, ids in zip(rows, inputs.prompt_ids, strict=True)
            if isinstance(row.request, GenerateRequest)
        ]
        dtype = self.checkpoint.model.dtype
        self._follow(GreedyLoop(self._counters, self._chooser, answers, dtype), inputs)
        self._counters.thinking_tokens += sum(answer.thinking_tokens for answer in answers)
        return [(row.index, answer.result()) for row, answer in zip(rows, answers, strict=True)]

    def _score_batch(self, rows: Sequence[_Row], inputs: BatchInputs) -> Found[Score]:
        told = [row.request.continuation for row in rows if isinstance(row.request, ScoreRequest)]
        forced = ForcedLoop(self._counters, told)
        self._follow(forced, inputs)
        failure = not_finite("the model's logits", self.checkpoint.model.dtype)
        return [(row.index, forced.score(number) or failure) for number, row in enumerate(rows)]

    def _follow(self, loop: GenerationLoop, inputs: BatchInputs) -> None:
        """Generate what ``loop`` chooses, and count what it takes."""
        model = self.checkpoint.model
        settings = copy.deepcopy(self.checkpoint.generation_config)
        settings.update(num_beams=1, num_return_sequences=1, max_length=None, max_new_tokens=loop.steps)
        settings.update(use_cache=True, return_dict_in_generate=False)
        tensors = BatchFeature(dict(inputs.tensors)).to(device=model.device, dtype=model.dtype)
        self._counters.tokens_prefilled += sum(map(len, inputs.prompt_ids))
        begin = time.perf_counter()
        model.generate(**tensors, generation_config=settings, custom_generate=loop.run)
        end = time.perf_counter()
        self._spent("prefill", loop.first_step - begin)
        self._spent("decode", end - loop.first_step)


def _asks(request: GenerateRequest) -> bool:
    return request.max_new_tokens > 0


def _given(request: GenerateRequest | ScoreRequest) -> int:
    """Tokens after the prompt that are fed: the last one of a continuation predicts nothing that is asked for."""
    return len(request.continuation[:-1]) if isinstance(request, ScoreRequest) else 0
