"""One run: its settings, engine, trace store and counts, from the model's construction to lmms-eval's ``clean``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from loguru import logger
from platformdirs import user_cache_path

from dualfocus_eval.engines.base import Failure
from dualfocus_eval.engines.transformers import TransformersEngine, load_engine
from dualfocus_eval.errors import UserError
from dualfocus_eval.harness.arguments import RunConfig
from dualfocus_eval.harness.environment import environment_of
from dualfocus_eval.harness.flags import refuse_flags, without_effect
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
        self.system_prompt = config.system_prompt
        self._command_line: Any = None
        self._warnings: list[str] = []
        self._summary = Summary()
        self._engine: TransformersEngine | None = engine or load_engine(config.engine)
        self._checkpoint = self._engine.identity
        self._environment = environment_of(self._engine.checkpoint.model)
        self.settings_key = settings_key(config.settings, {"model": self._checkpoint})
        self.trace_folder = config.trace_dir or user_cache_path("dualfocus-eval") / "traces" / self.settings_key
        self._store: TraceStore | None = None
        if accelerator.is_main_process:
            self._show_settings()

    @property
    def engine(self) -> TransformersEngine:
        """The loaded model; loaded again when a run has ended and its object is used once more."""
        if self._engine is None:
            self._engine = load_engine(self.config.engine)
        return self._engine

    @property
    def store(self) -> TraceStore:
        """This rank's traces; opened at the first question."""
        if self._store is None:
            try:
                self._store = TraceStore(self.trace_folder, self.settings_key, rank=self._accelerator.process_index)
            except OSError as error:
                raise UserError(f"trace folder {self.trace_folder} cannot be used: {error}") from error
        return self._store

    @property
    def record(self) -> dict[str, Any]:
        """What stands in the results file: the resolved settings, what ran them, where the traces are, the counts."""
        return {
            "settings": asdict(self.config.settings),
            "settings_from": dict(self.config.sources),
            "engine": asdict(self.config.engine),
            "checkpoint": self._checkpoint,
            "environment": self._environment,
            "batch_size": self.config.batch_size,
            "settings_key": self.settings_key,
            "traces": str(self.trace_folder.absolute()),
            "summary": self._summary.as_dict(),
            "warnings": list(self._warnings),
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
        """Let this run's record travel with lmms-eval's results."""
        if command_line is None or command_line is self._command_line:
            return
        self._command_line = command_line

    def take_flags(self, flags: Mapping[str, Any], tasks: Collection[str]) -> None:
        """Go by lmms-eval's own ``flags``: take over its system instruction, warn of what has no effect on ``tasks``.

        Raises ``UserError`` for flags that are not supported, and for two system prompts.
        """
        refuse_flags(flags)
        instruction = flags.get("system_instruction")
        if instruction and self.config.system_prompt not in (None, instruction):
            raise UserError(
                f"--system_instruction {instruction!r} and the model argument system_prompt="
                f"{self.config.system_prompt!r} differ; give one of them"
            )
        self.system_prompt = instruction or self.config.system_prompt
        for message in without_effect(flags, tasks):
            self.warn(message)

    def warn(self, message: str) -> None:
        """Log ``message`` once, and keep it for the summary and the results."""
        if message not in self._warnings:
            self._warnings.append(message)
            if self._accelerator.is_main_process:
                logger.warning(message)

    def finish(self) -> None:
        """Close the traces, add up the counts of all ranks, show them and free the model."""
        if self._engine:
            self._summary.add_counters(self._engine.counters)
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
            print_summary(self._summary, str(self.trace_folder), self._warnings)
        self._summary, self._warnings = Summary(), []

    def _show_settings(self) -> None:
        values = asdict(self.config.settings) | {"image_aspect": self.config.engine.image_aspect}
        lines = [f"{name}={value} ({self.config.sources[name]})" for name, value in values.items()]
        logger.info(f"dualfocus {self.config.engine.pretrained}: " + ", ".join(lines))
