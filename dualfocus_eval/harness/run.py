"""One run: its settings, engine, trace store and counts, from the model's construction to lmms-eval's ``clean``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from loguru import logger
from platformdirs import user_cache_path

from dualfocus_eval.engines.base import Failure
from dualfocus_eval.engines.prefix_cache import GIB
from dualfocus_eval.engines.transformers import TransformersEngine, load_engine
from dualfocus_eval.errors import UserError
from dualfocus_eval.harness.arguments import RunConfig
from dualfocus_eval.harness.environment import arithmetic_of, environment_of
from dualfocus_eval.harness.summary import Summary, print_summary
from dualfocus_eval.method.pipeline import Likelihood, answer, loglikelihood
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import settings_key
from dualfocus_eval.method.store import TraceStore
from dualfocus_eval.method.trace import Trace

__all__ = ["Run"]


class Run:
    """Answers batches of questions and keeps account of them; with ``engine`` no checkpoint is loaded.

    Raises ``UserError`` where the checkpoint cannot be used or the trace folder cannot be written.
    """

    def __init__(self, config: RunConfig, accelerator: Accelerator, engine: TransformersEngine | None = None) -> None:
        self.config = config
        self._accelerator = accelerator
        self._command_line: Any = None
        self._summary = Summary()
        self._engine: TransformersEngine | None = engine or load_engine(config.engine)
        self._checkpoint = self._engine.identity
        model = self._engine.checkpoint.model
        self._environment = environment_of(model)
        self.arithmetic = arithmetic_of(model, adapter=config.engine.peft is not None)
        self.settings_key = settings_key(config.settings, {"checkpoint": self._engine.checkpoint.digest})
        self._prefix_cache_gib = self._engine.prefix_cache.budget / GIB
        self.trace_folder = config.trace_dir or user_cache_path("dualfocus-eval") / "traces" / self.settings_key
        self._store: TraceStore | None = None
        self._not_reused: tuple[str, ...] = ()
        if accelerator.is_main_process:
            self._show_settings()

    @property
    def engine(self) -> TransformersEngine:
        """The loaded model; loaded again when a run has ended and its object is used once more."""
        if self._engine is None:
            self._engine = load_engine(self.config.engine)
            if self._engine.identity != self._checkpoint:
                raise UserError(f"{self.config.engine.pretrained} has changed since this model was made; make it anew")
        return self._engine

    @property
    def store(self) -> TraceStore:
        """This rank's traces; opened at the first question."""
        if self._store is None:
            try:
                self._store = TraceStore(
                    self.trace_folder,
                    self.settings_key,
                    arithmetic=self.arithmetic,
                    rank=self._accelerator.process_index,
                )
            except OSError as error:
                raise UserError(f"trace folder {self.trace_folder} cannot be used: {error}") from error
            self._not_reused = self._store.not_reused
            if self._not_reused and self._accelerator.is_main_process:
                logger.warning("; ".join(self._not_reused))
        return self._store

    @property
    def record(self) -> dict[str, Any]:
        """What stands in the results file: the resolved settings, what ran them, where the traces are, the counts."""
        return {
            "settings": asdict(self.config.settings),
            "settings_from": dict(self.config.sources),
            "engine": asdict(self.config.engine) | {"prefix_cache_gib": self._prefix_cache_gib},
            "checkpoint": self._checkpoint,
            "environment": self._environment,
            "batch_size": self.config.batch_size,
            "settings_key": self.settings_key,
            "arithmetic": self.arithmetic,
            "not_reused": list(self._not_reused),
            "traces": str(self.trace_folder.absolute()),
            "summary": self._summary.as_dict(),
        }

    def answer(self, questions: Sequence[Question]) -> list[Trace]:
        """Traces in the order of ``questions``; each is stored before the next batch begins."""
        before = self.store.reused
        traces = answer(questions, self.engine, self.config.settings, store=self.store)
        self._summary.resumed += self.store.reused - before
        for trace in traces:
            self._summary.add_trace(trace)
            if trace.error:
                logger.warning(f"{trace.key} failed: {trace.error.kind}: {trace.error.message}")
        return traces

    def score(self, targets: Sequence[tuple[Question, str]]) -> list[Likelihood | Failure]:
        """Likelihoods of texts as answers to their questions. They are not stored: a rerun scores them again."""
        results = loglikelihood(targets, self.engine, self.config.settings)
        self._summary.add_scores(targets, results)
        return results

    def refuse_two_pathways(self) -> None:
        """Raise ``UserError`` where a likelihood is asked for and the strategy has no single one."""
        if self.config.settings.strategy == "dualfocus":
            raise UserError(
                "strategy=dualfocus chooses between two generated answers and gives a text no single likelihood; for "
                "this task pass --model_args strategy=macro or strategy=micro"
            )

    def note_command_line(self, command_line: Any) -> None:
        """Let this run's record travel with lmms-eval's results, and warn of flags that work against it."""
        if command_line is None or command_line is self._command_line:
            return
        self._command_line = command_line
        if not self._accelerator.is_main_process:
            return
        if getattr(command_line, "use_cache", None):
            logger.warning(
                "--use_cache: lmms-eval's response cache stores nothing until all requests are done, and answers from "
                f"it leave no trace. dualfocus resumes from its own traces in {self.trace_folder}; drop the flag"
            )
        if getattr(command_line, "limit", None) and "mmbench" in str(command_line.tasks):
            logger.warning("--limit cuts MMBench's circular groups apart, which inflates the score")

    def finish(self) -> None:
        """Close the traces, add up the counts of all ranks, show them and free the model."""
        if self._engine:
            self._summary.add_counters(self._engine.counters)
            self._summary.prefix_cache_gib += self._engine.prefix_cache.budget / GIB
        if self._store:
            self._store.close()
            self._summary.unwritten += self._store.unwritten
        self._engine = self._store = None
        if self._accelerator.num_processes > 1:
            self._summary = Summary.merged(gather_object([self._summary]))
        if self._command_line is not None:
            # lmms-eval writes the whole command line into its results, and nothing else that a model can reach.
            self._command_line.dualfocus = self.record
        if self._accelerator.is_main_process:
            print_summary(self._summary, str(self.trace_folder))
        self._summary = Summary()

    def _show_settings(self) -> None:
        values = asdict(self.config.settings) | {"image_aspect": self.config.engine.image_aspect}
        lines = [f"{name}={value} ({self.config.sources[name]})" for name, value in values.items()]
        logger.info(f"dualfocus {self.config.engine.pretrained}: " + ", ".join(lines))
