"""The in-process engine: transformers models behind ``engines.base.Engine``.

Requests are rendered one by one, ordered so that those with a common beginning stand together, and run in chunks of at
most ``max_conversations`` rows. A chunk that does not fit into memory is halved.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from dualfocus_eval.common.errors import first_line
from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Counters,
    Failure,
    GenerateRequest,
    Picture,
    Score,
    ScoreRequest,
)
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.checkpoint_files import is_finite
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.device_memory import is_out_of_memory, prefix_cache_bytes
from dualfocus_eval.engines.greedy import Decoder
from dualfocus_eval.engines.image_inputs import ImageEncoder
from dualfocus_eval.engines.loading import load_checkpoint
from dualfocus_eval.engines.prefill import BatchRow, Prefiller
from dualfocus_eval.engines.prefix_cache import PrefixCache
from dualfocus_eval.engines.rendering import Prompt, Renderer, RenderingError
from dualfocus_eval.families import Family

__all__ = ["TransformersEngine", "load_engine"]

logger = logging.getLogger(__name__)

R = TypeVar("R", Completion, Score)


class TransformersEngine:
    """Runs one checkpoint on this machine; an ``engines.base.Engine``."""

    def __init__(self, checkpoint: Checkpoint, max_conversations: int, prefix_cache_bytes: int) -> None:
        self.checkpoint = checkpoint
        self.max_conversations = max_conversations
        """Most rows in one forward pass; halved for good when they do not fit into memory."""
        self._counters = Counters()
        self._begun = False
        self.prefix_cache = PrefixCache(prefix_cache_bytes)
        model = checkpoint.model
        self._encoder = ImageEncoder(model, checkpoint.processor, checkpoint.family, self._counters)
        self._renderer = Renderer(self._encoder, checkpoint.end_ids, checkpoint.default_end_id)
        self._prefiller = Prefiller(
            model,
            self._encoder,
            self.prefix_cache,
            self._counters,
            checkpoint.layers,
            reuse=prefix_cache_bytes > 0 and checkpoint.no_reuse is None,
            recurrent=checkpoint.recurrent,
        )
        self._decoder = Decoder(
            self._prefiller,
            checkpoint.processor.tokenizer,
            checkpoint.generation_config,
            checkpoint.end_ids,
            checkpoint.max_positions,
        )

    @property
    def counters(self) -> Counters:
        return self._counters

    @property
    def identity(self) -> str:
        """The checkpoint's name, and after the last hyphen the digest of its content."""
        return f"{self.checkpoint.name}-{self.checkpoint.digest}"

    @property
    def family(self) -> Family:
        return self.checkpoint.family

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """Greedy completions in the order of the requests; see ``Engine.generate``."""
        results: dict[int, Completion | Failure] = {}
        rows, failures = self._render([(request.conversation, ()) for request in requests])
        results.update(failures)
        results.update({row.index: Completion("", (), (), "length") for row in rows if not _asks(requests[row.index])})
        rows = [row for row in rows if _asks(requests[row.index])]
        self._run(rows, results, lambda chunk: self._generate_chunk(chunk, requests))
        return [results[index] for index in range(len(requests))]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score | Failure]:
        """Log-probabilities of given continuations, from the raw logits; see ``Engine.score``."""
        results: dict[int, Score | Failure] = {}
        rows, failures = self._render([(request.conversation, request.continuation) for request in requests])
        results.update(failures)
        results.update({row.index: Score((), ()) for row in rows if not row.continuation})
        rows = [row for row in rows if row.continuation]
        copies = Counter(row.prompt.key_with(()) for row in rows)
        for row in rows:
            row.shares_prompt = copies[row.prompt.key_with(())] > 1 and row.prompt.hashed < len(row.prompt.ids)
        self._run(rows, results, self._score_chunk)
        return [results[index] for index in range(len(requests))]

    def continuation(self, conversation: Conversation, text: str) -> tuple[int, ...]:
        """Token ids of ``text`` as the answer to ``conversation``, the checkpoint's end token at its end."""
        return self._renderer.answer_ids(conversation, text)

    def encoded_size(self, picture: Picture) -> tuple[int, int]:
        """(width, height) at which the vision encoder sees ``picture``."""
        return self.family.encoded_size(self._encoder.preprocess(picture), self.checkpoint.processor)

    def _render(
        self, requests: Sequence[tuple[Conversation, tuple[int, ...]]]
    ) -> tuple[list[BatchRow], dict[int, Failure]]:
        """Rows of the (conversation, continuation) pairs that can be rendered, and why the others cannot."""
        begin = time.perf_counter()
        rows: list[BatchRow] = []
        failures: dict[int, Failure] = {}
        prompts: dict[Conversation, Prompt] = {}
        for index, (conversation, continuation) in enumerate(requests):
            try:
                if conversation not in prompts:
                    prompts[conversation] = self._renderer.render(conversation)
            except RenderingError as error:
                failures[index] = Failure(error.kind, str(error))
                continue
            row = BatchRow(index, prompts[conversation], continuation)
            limit = self.checkpoint.max_positions
            if len(row.ids) < limit:
                rows.append(row)
            else:
                failures[index] = Failure("too_long", f"{len(row.ids)} tokens; the model takes less than {limit}")
        seconds = self._counters.seconds
        seconds["preprocess"] = seconds.get("preprocess", 0.0) + time.perf_counter() - begin
        return self._ordered(rows), failures

    def _ordered(self, rows: list[BatchRow]) -> list[BatchRow]:
        """Rows with a common first picture together, in the order of its first use; else by length."""
        if not self._prefiller.reuse:
            return sorted(rows, key=lambda row: len(row.ids))
        first_use: dict[str, int] = {}
        for row in rows:
            first_use.setdefault(_root(row.prompt), len(first_use))
        return sorted(rows, key=lambda row: (first_use[_root(row.prompt)], len(row.ids)))

    def _run(
        self,
        rows: Sequence[BatchRow],
        results: dict[int, R | Failure],
        run_chunk: Callable[[Sequence[BatchRow]], list[tuple[int, R | Failure]]],
    ) -> None:
        """Run all rows in chunks and put what comes of each into ``results``."""
        pending = list(rows)
        retried = False
        while pending:
            chunk = [replace(row, base=None) for row in pending[: self.max_conversations]]
            problem = None
            try:
                with torch.inference_mode():
                    found = run_chunk(chunk)
                self._look_at_the_first(found)
                results.update(found)
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                problem = first_line(error)
            if problem is not None:
                # Outside the handler the failed pass's tensors are no longer referenced.
                self._release_memory()
            if problem is not None and len(chunk) > 1:
                self.max_conversations = len(chunk) // 2
                self._counters.batch_halvings += 1
                logger.warning(
                    "out of memory with %d conversations in a batch; going on with %d",
                    len(chunk),
                    self.max_conversations,
                )
            elif problem is not None and not retried:
                retried = True  # the caches are empty now
            else:
                if problem is not None:
                    message = f"one conversation alone does not fit: {problem}"
                    results[chunk[0].index] = Failure("out_of_memory", message)
                pending = pending[len(chunk) :]
                retried = False

    def _look_at_the_first(self, found: Sequence[tuple[int, Completion | Score | Failure]]) -> None:
        """Say at the first batch, once, that none of it has finite logits: then no later one is likely to."""
        failures = [result for _, result in found if isinstance(result, Failure) and result.kind == "not_finite"]
        if not self._begun and failures and len(failures) == len(found):
            logger.error("no conversation of the first batch (%d) has a result: %s", len(found), failures[0].message)
        self._begun = True

    def _generate_chunk(
        self, rows: Sequence[BatchRow], requests: Sequence[GenerateRequest]
    ) -> list[tuple[int, Completion | Failure]]:
        results: list[tuple[int, Completion | Failure]] = []
        for batch in self._prefiller.prefill(rows, self.max_conversations):
            indices = [row.index for row in batch.rows]
            completions = self._decoder.decode(batch, [requests[index] for index in indices])
            results.extend(zip(indices, completions, strict=True))
        return results

    def _score_chunk(self, rows: Sequence[BatchRow]) -> list[tuple[int, Score | Failure]]:
        results: list[tuple[int, Score | Failure]] = []
        for batch in self._prefiller.prefill(rows, self.max_conversations):
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
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def load_engine(config: EngineConfig) -> TransformersEngine:
    """Load the checkpoint that ``config`` names. Raises ``CheckpointError`` when it cannot be used."""
    checkpoint = load_checkpoint(config)
    return TransformersEngine(checkpoint, config.max_conversations, prefix_cache_bytes(config, checkpoint.model))


def _asks(request: GenerateRequest) -> bool:
    return request.max_new_tokens > 0


def _root(prompt: Prompt) -> str:
    return prompt.boundaries[0].key if prompt.boundaries else ""
