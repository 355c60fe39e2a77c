"""What every engine that runs a checkpoint on this machine has: its identity, its counters, batches that fit."""

from __future__ import annotations

import gc
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import torch

from dualfocus_eval.common.errors import first_line
from dualfocus_eval.engines.attention import ImageAttention
from dualfocus_eval.engines.base import Completion, Conversation, Counters, Engine, Failure, Score
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.device_memory import is_out_of_memory
from dualfocus_eval.engines.environment import arithmetic_of, environment_of
from dualfocus_eval.engines.running import EngineInfo, RunEngine
from dualfocus_eval.engines.template import prompt_parts
from dualfocus_eval.families import Family

__all__ = ["LocalEngine"]

logger = logging.getLogger(__name__)


class _Indexed(Protocol):
    @property
    def index(self) -> int:
        """Position of its request in the caller's list."""
        ...


R = TypeVar("R", Completion, Score, ImageAttention)
Row = TypeVar("Row", bound=_Indexed)


class LocalEngine(RunEngine):
    """One checkpoint in this process. Engines of this kind differ in how a batch goes through the model."""

    def __init__(self, checkpoint: Checkpoint, max_conversations: int) -> None:
        self.checkpoint = checkpoint
        self.max_conversations = max_conversations
        """Most rows in one forward pass; halved for good when they do not fit into memory."""
        self._counters = Counters()
        self._begun = False

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

    @property
    def key(self) -> Mapping[str, str]:
        return {"checkpoint": self.checkpoint.digest, "family_version": str(self.family.version)}

    @property
    def arithmetic(self) -> Mapping[str, str]:
        return arithmetic_of(self.checkpoint.model, adapter=self.checkpoint.adapted)

    @property
    def environment(self) -> Mapping[str, Any]:
        return environment_of(self.checkpoint.model)

    @property
    def thinks(self) -> bool:
        return self.checkpoint.thinking is not None

    @property
    def chat_template(self) -> str | None:
        processor = self.checkpoint.processor
        template: str | None = processor.chat_template or processor.tokenizer.chat_template
        return template

    @property
    def info(self) -> EngineInfo:
        """What runs the model, for people to read."""
        model, family = self.checkpoint.model, self.family
        reason = self.checkpoint.no_reuse or (None if self.prefix_cache_bytes else "prefix_cache_gib=0")
        dtype = str(model.dtype).removeprefix("torch.")
        return EngineInfo(family.engine, family.name, str(model.device), dtype, reason, family.limited_reuse)

    @abstractmethod
    def prompt_ids(self, conversation: Conversation) -> tuple[int, ...]:
        """The prompt as the model gets it, image tokens expanded; raises where it cannot be rendered."""

    @abstractmethod
    def variant(self, max_conversations: int, *, reuse: bool) -> LocalEngine:
        """The same loaded checkpoint in batches of at most ``max_conversations``, and with or without prefix reuse."""

    def prompt_parts(self, conversation: Conversation) -> tuple[str | int, ...]:
        """The prompt in reading order, special tokens included: texts, and the lengths of runs of image tokens.

        Raises like `prompt_ids`.
        """
        return prompt_parts(self.checkpoint.processor, self.prompt_ids(conversation))

    def other_ways(self) -> Mapping[str, Callable[[], Engine]]:
        """In batches without prefix reuse, and one conversation at a time with and without it."""
        batch, ways = self.max_conversations, {}
        if self.info.no_reuse is None:
            ways[f"batches of {batch}, no prefix reuse"] = partial(self.variant, batch, reuse=False)
            ways["one at a time, prefix reuse"] = partial(self.variant, 1, reuse=True)
        return ways | {"one at a time, no prefix reuse": partial(self.variant, 1, reuse=False)}

    def _spent(self, phase: str, seconds: float) -> None:
        """Add to the wall time of ``phase``."""
        self._counters.seconds[phase] = self._counters.seconds.get(phase, 0.0) + seconds

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Count what is done meanwhile to the wall time of ``phase``."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._spent(phase, time.perf_counter() - begin)

    def _run(
        self,
        rows: Sequence[Row],
        results: dict[int, R | Failure],
        run_chunk: Callable[[Sequence[Row]], list[tuple[int, R | Failure]]],
    ) -> None:
        """Run all rows in chunks and put what comes of each into ``results``."""
        pending = list(rows)
        retried = False
        while pending:
            chunk = pending[: self.max_conversations]
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
                self._halve(len(chunk))
            elif problem is not None and not retried:
                retried = True  # the caches are empty now
            else:
                if problem is not None:
                    message = f"one conversation alone does not fit: {problem}"
                    results[chunk[0].index] = Failure("out_of_memory", message)
                pending = pending[len(chunk) :]
                retried = False

    def _halve(self, conversations: int) -> None:
        self.max_conversations = conversations // 2
        self._counters.batch_halvings += 1
        logger.warning(
            "out of memory with %d conversations in a batch; going on with %d", conversations, self.max_conversations
        )

    def _look_at_the_first(self, found: Sequence[tuple[int, Completion | Score | ImageAttention | Failure]]) -> None:
        """Say at the first batch, once, that none of it has finite logits: then no later one is likely to."""
        failures = [result for _, result in found if isinstance(result, Failure) and result.kind == "not_finite"]
        if not self._begun and failures and len(failures) == len(found):
            logger.error("no conversation of the first batch (%d) has a result: %s", len(found), failures[0].message)
        self._begun = True

    def _release_memory(self) -> None:
        """Give back what can be computed again."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
