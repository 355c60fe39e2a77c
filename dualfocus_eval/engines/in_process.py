"""The in-process engine: transformers models behind ``engines.base.Engine``.

Requests are rendered one by one, ordered so that those with a common beginning stand together, and run in chunks of at
most ``max_conversations`` rows. A chunk that does not fit into memory is halved.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from dualfocus_eval.engines.attention import AttentionRequest, ImageAttention
from dualfocus_eval.engines.attention_reader import AttentionReader
from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.batch_rows import BatchRow
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.checkpoint_files import is_finite
from dualfocus_eval.engines.choosing import Chooser
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.device_memory import prefix_cache_bytes
from dualfocus_eval.engines.generate import GenerateEngine
from dualfocus_eval.engines.greedy import Decoder
from dualfocus_eval.engines.image_inputs import ImageEncoder, ShownPicture
from dualfocus_eval.engines.loading import load_checkpoint
from dualfocus_eval.engines.local import LocalEngine
from dualfocus_eval.engines.prefill import Prefiller
from dualfocus_eval.engines.prefix_cache import PrefixCache
from dualfocus_eval.engines.processors import check_answers
from dualfocus_eval.engines.rendering import Prompt, Renderer
from dualfocus_eval.engines.template import ChatTemplate, RenderingError

__all__ = ["TransformersEngine", "engine_of", "load_engine"]

Request = GenerateRequest | ScoreRequest | AttentionRequest


class TransformersEngine(LocalEngine):
    """Runs a checkpoint whose family says how images and positions reach the model; reuses states of prefixes."""

    def __init__(self, checkpoint: Checkpoint, max_conversations: int, prefix_cache_bytes: int) -> None:
        super().__init__(checkpoint, max_conversations)
        self.prefix_cache = PrefixCache(prefix_cache_bytes)
        model = checkpoint.model
        self._encoder = ImageEncoder(model, checkpoint.processor, checkpoint.family, self._counters)
        self._renderer = Renderer(self._encoder, ChatTemplate.of(checkpoint))
        self._prefiller = Prefiller(
            model,
            self._encoder,
            self.prefix_cache,
            self._counters,
            checkpoint.layers,
            checkpoint.masks,
            reuse=prefix_cache_bytes > 0 and checkpoint.no_reuse is None,
            recurrent=checkpoint.recurrent,
        )
        self._decoder = Decoder(self._prefiller, Chooser(checkpoint))
        self._attention = AttentionReader(checkpoint, self._prefiller)

    @property
    def prefix_cache_bytes(self) -> int:
        return self.prefix_cache.budget

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """Greedy completions in the order of the requests; see ``Engine.generate``."""
        results: dict[int, Completion | Failure] = {}
        rows, failures = self._render(requests)
        results.update(failures)
        results.update({row.index: Completion("", (), (), "length") for row in rows if not _asks(requests[row.index])})
        rows = [row for row in rows if _asks(requests[row.index])]
        self._run(rows, results, lambda chunk: self._generate_chunk(chunk, requests))
        return [results[index] for index in range(len(requests))]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        """Log-probabilities of given continuations, from the raw logits; see ``Engine.score``."""
        results: dict[int, Score | Failure] = {}
        rows, failures = self._render(requests)
        results.update(failures)
        results.update({row.index: Score((), ()) for row in rows if not row.continuation})
        rows = [row for row in rows if row.continuation]
        copies = Counter(row.prompt.key_with(()) for row in rows)
        for row in rows:
            row.shares_prompt = copies[row.prompt.key_with(())] > 1 and row.prompt.hashed < len(row.prompt.ids)
        self._run(rows, results, self._score_chunk)
        return [results[index] for index in range(len(requests))]

    def attention_problem(self, layer: int | None) -> str | None:
        """See `AttendingEngine.attention_problem`."""
        return self._attention.problem(layer)

    def attend(self, requests: Sequence[AttentionRequest], layer: int | None = None) -> list[ImageAttention | Failure]:
        """The attention of every prompt to its picture; see `AttendingEngine.attend`."""
        results: dict[int, ImageAttention | Failure] = {}
        rows, failures = self._render(requests)
        results.update(failures)
        self._run(rows, results, lambda chunk: self._attention.read(_afresh(chunk), layer, self.max_conversations))
        return [results[index] for index in range(len(requests))]

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Token ids of ``text`` as the answer to ``conversation``, the checkpoint's end token at its end."""
        return self._renderer.template.answer_ids(conversation, text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        """(width, height) at which the vision encoder sees ``picture``."""
        return self.family.encoded_size(self._encoder.preprocess(ShownPicture(picture)), self.checkpoint.processor)

    def prompt_ids(self, conversation: Conversation) -> tuple[int, ...]:
        """The prompt as the model gets it, image tokens expanded. Raises ``RenderingError``."""
        return self._renderer.render(conversation).ids

    def variant(self, max_conversations: int, *, reuse: bool) -> TransformersEngine:
        """See ``LocalEngine.variant``."""
        return TransformersEngine(self.checkpoint, max_conversations, self.prefix_cache_bytes if reuse else 0)

    def _render(self, requests: Sequence[Request]) -> tuple[list[BatchRow], dict[int, Failure]]:
        """Rows of the requests that can be rendered, and why the others cannot."""
        begin = time.perf_counter()
        rows: list[BatchRow] = []
        failures: dict[int, Failure] = {}
        prompts: dict[tuple[Conversation, bool], Prompt] = {}
        for index, request in enumerate(requests):
            key = request.conversation, request.answers_at_once
            try:
                if key not in prompts:
                    prompts[key] = self._renderer.render(request.conversation, answering=request.answers_at_once)
            except RenderingError as error:
                failures[index] = Failure(error.kind, str(error))
                continue
            row = BatchRow(index, prompts[key], request.continuation if isinstance(request, ScoreRequest) else ())
            limit = self.checkpoint.max_positions
            if len(row.ids) < limit:
                rows.append(row)
            else:
                failures[index] = Failure("too_long", f"{len(row.ids)} tokens; the model takes less than {limit}")
        self._spent("preprocess", time.perf_counter() - begin)
        return self._ordered(rows), failures

    def _ordered(self, rows: list[BatchRow]) -> list[BatchRow]:
        """Rows with a common first picture together, in the order of its first use; else by length."""
        if not self._prefiller.reuse:
            return sorted(rows, key=lambda row: len(row.ids))
        first_use: dict[str, int] = {}
        for row in rows:
            first_use.setdefault(_root(row.prompt), len(first_use))
        return sorted(rows, key=lambda row: (first_use[_root(row.prompt)], len(row.ids)))

    def _generate_chunk(
        self, rows: Sequence[BatchRow], requests: Sequence[GenerateRequest]
    ) -> list[tuple[int, Completion | Failure]]:
        results: list[tuple[int, Completion | Failure]] = []
        for batch in self._prefiller.prefill(_afresh(rows), self.max_conversations):
            indices = [row.index for row in batch.rows]
            completions = self._decoder.decode(batch, [requests[index] for index in indices])
            results.extend(zip(indices, completions, strict=True))
        return results

    def _score_chunk(self, rows: Sequence[BatchRow]) -> list[tuple[int, Score | Failure]]:
        results: list[tuple[int, Score | Failure]] = []
        for batch in self._prefiller.prefill(_afresh(rows), self.max_conversations):
            for number, row in enumerate(batch.rows):
                logits = batch.logits[number, -len(row.continuation) :]  # (tokens, vocabulary)
                if not is_finite(logits):
                    results.append((row.index, self._prefiller.not_finite(row)))
                    continue
                targets = torch.tensor(row.continuation, device=logits.device).unsqueeze(1)
                logprobs = torch.log_softmax(logits, dim=-1).gather(1, targets).squeeze(1)
                greedy = logits.argmax(dim=-1) == targets.squeeze(1)
                results.append((row.index, Score(tuple(logprobs.tolist()), tuple(greedy.tolist()))))
        return results

    def _release_memory(self) -> None:
        self._prefiller.held = {}
        self.prefix_cache.clear()
        self._encoder.features.clear()
        super()._release_memory()


def engine_of(checkpoint: Checkpoint, max_conversations: int, prefix_cache_bytes: int) -> LocalEngine:
    """The engine that the checkpoint's family asks for."""
    if checkpoint.family.engine == "generate":
        return GenerateEngine(checkpoint, max_conversations)
    return TransformersEngine(checkpoint, max_conversations, prefix_cache_bytes)


def load_engine(config: EngineConfig) -> LocalEngine:
    """Load the checkpoint that ``config`` names. Raises ``CheckpointError`` when it cannot be used."""
    checkpoint = load_checkpoint(config)
    engine = engine_of(checkpoint, config.max_conversations, prefix_cache_bytes(config, checkpoint.model))
    if checkpoint.family.engine == "generate":
        rows = checkpoint.model.get_input_embeddings().weight.shape[0]
        check_answers(engine_of(checkpoint, 1, 0), rows, checkpoint.processor, config.pretrained)
    return engine


def _afresh(rows: Sequence[BatchRow]) -> list[BatchRow]:
    """``rows`` without what an earlier attempt, which may have run out of memory, has left in them."""
    return [replace(row, base=None) for row in rows]


def _asks(request: GenerateRequest) -> bool:
    return request.max_new_tokens > 0


def _root(prompt: Prompt) -> str:
    return prompt.boundaries[0].key if prompt.boundaries else ""
