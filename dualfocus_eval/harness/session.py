"""One run: its settings, engine, trace store and counts, from the model's construction to lmms-eval's ``clean``."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object
from loguru import logger
from platformdirs import user_cache_path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.threads import results_of
from dualfocus_eval.engines.base import Failure, RunEndedError
from dualfocus_eval.engines.config import IMAGE_OPTIONS
from dualfocus_eval.engines.prefix_cache import GIB
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.engines.starting import start_engine
from dualfocus_eval.harness.arguments import KEPT_SIDES, RunConfig
from dualfocus_eval.harness.calibrated import fitting_calibration
from dualfocus_eval.harness.fitting import fitting_settings, refuse_likelihoods
from dualfocus_eval.harness.flags import refuse_flags, without_effect
from dualfocus_eval.harness.noting import progress_of
from dualfocus_eval.harness.outcomes import Outcomes, add_to_results, failure_notice
from dualfocus_eval.harness.requests import Request
from dualfocus_eval.harness.run_folder import RunFolder
from dualfocus_eval.harness.starting_notes import ALONE, alone_despite_accelerate, ignored_arguments
from dualfocus_eval.harness.store_key import StoreKey
from dualfocus_eval.harness.summary import Summary, print_failures, print_summary
from dualfocus_eval.harness.together import OtherRuns, release_engine, shared_engine
from dualfocus_eval.method.pipeline import Likelihood, answer, loglikelihood
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.sharing import StoredRun, answer_under_all
from dualfocus_eval.traces.progress import write_progress
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.store import TraceStore

__all__ = ["Session"]

B = TypeVar("B")
Targets = Sequence[tuple[Question, str]]


class Session:
    """Answers batches of questions and keeps account of them; with ``engine`` no checkpoint is loaded.

    Every batch is answered for the runs ``others`` of the same model too, and their answers are stored for them.
    Raises ``UserError`` where the checkpoint cannot be used or the trace folder cannot be written.
    """

    def __init__(
        self, config: RunConfig, accelerator: Accelerator, engine: RunEngine | None = None,
        *, others: Sequence[RunConfig] = (),
    ) -> None:  # fmt: skip
        self.config, self._others, self._accelerator = config, OtherRuns(others), accelerator
        self.system_prompt = config.system_prompt
        self._warnings: list[str] = []
        self._summary = Summary()
        self._outcomes = Outcomes()
        self._finished: tuple[dict[str, Any], Outcomes] | None = None
        self._engine: RunEngine | None = engine or shared_engine(config.engine, start_engine)
        self._before = copy.deepcopy(self._engine.counters)
        self._checkpoint = self._engine.identity
        self._environment = self._engine.environment
        self._calibration, settings, told = fitting_calibration(
            config.calibration, config.settings, self._engine, config.sources.get("selection", "default")
        )
        self._settings, unscored = fitting_settings(settings, self._engine)
        self._key = StoreKey.of(self._settings, self._engine)
        self.settings_key, self.arithmetic = self._key.settings_key, self._key.arithmetic
        info = self._engine.info
        self._no_reuse = info.no_reuse
        self._limited_reuse = info.limited_reuse if config.settings.strategy != "macro" else None
        self._prefix_cache_gib = self._engine.prefix_cache_bytes / GIB
        folder = config.trace_dir or user_cache_path("dualfocus-eval") / "traces" / self.settings_key
        self._folder = RunFolder(folder, self._key, KEPT_SIDES[config.trace_images], accelerator)
        if accelerator.is_main_process:
            self._show_settings()
        for warning in (*config.warnings, *told, *unscored, *ignored_arguments(config, self._engine)):
            self.warn(warning)
        if alone_despite_accelerate(accelerator):
            self.warn(ALONE)

    @property
    def engine(self) -> RunEngine:
        """The loaded model; loaded again when a run has ended and its object is used once more."""
        if self._engine is None:
            self._engine = shared_engine(self.config.engine, start_engine)
            self._before = copy.deepcopy(self._engine.counters)
            if self._engine.identity != self._checkpoint:
                raise UserError(f"{self.config.engine.described} has changed since this model was made; make it anew")
        return self._engine

    @property
    def trace_folder(self) -> Path:
        """Where traces and pictures are."""
        return self._folder.path

    @property
    def store(self) -> TraceStore:
        """This rank's traces; opened at the first question."""
        return self._folder.store

    @property
    def record(self) -> dict[str, Any]:
        """What stands in the results file: the resolved settings, what ran them, where the traces are, the counts."""
        return {
            "settings": asdict(self._settings),
            "settings_from": dict(self.config.sources),
            "calibration": self._calibration.content if self._calibration else None,
            "engine": asdict(self.config.engine) | {"prefix_cache_gib": self._prefix_cache_gib},
            "no_prefix_reuse": self._no_reuse,
            "limited_prefix_reuse": self._limited_reuse,
            "checkpoint": self._checkpoint,
            "environment": self._environment,
            "batch_size": self.config.batch_size,
            "processes": self._accelerator.num_processes,
            "settings_key": self.settings_key,
            "arithmetic": self.arithmetic,
            "not_reused": list(self._folder.not_reused),
            "traces": str(self.trace_folder.absolute()),
            "summary": self._summary.as_dict(),
            "warnings": list(self._warnings),
            "tasks": self._outcomes.by_task(),
        }

    @property
    def batch_size(self) -> int:
        """Questions in one call of the engine."""
        return self.engine.questions_per_call(self.config.batch_size)

    def note_progress(self, requests: Iterable[Request], flags: Mapping[str, Any]) -> None:
        """Write down beside the traces what this process is about to ask, so that `dualfocus view` can follow the run.

        The run goes on where it cannot be written.
        """
        model, processes = self.config.engine.described, self._accelerator.num_processes
        note = progress_of(requests, flags, self.store, self._settings, model, processes)
        try:
            write_progress(self.trace_folder, note, self._accelerator.process_index)
        except OSError as error:
            self.warn(f"dualfocus view cannot follow this run: {self.trace_folder} ({error.strerror})")

    def answered(self, batches: Iterable[tuple[B, Sequence[Question]]]) -> Iterator[tuple[B, list[Trace]]]:
        """What comes with each batch, and traces in the order of its questions; batches in the order they are done.

        Every answer is stored as it comes.
        """
        engine, store, pictures = self.engine, self._folder.store, self._folder.pictures
        own = StoredRun(self._settings, store, self._calibration)
        others = self._others.opened(engine, self._accelerator.process_index)

        def run(batch: tuple[B, Sequence[Question]]) -> tuple[B, list[Trace]]:
            pictures.keep(picture for question in batch[1] for picture in question.images)
            if others:
                return batch[0], answer_under_all(batch[1], engine.call_engine(), [own, *others])
            return batch[0], answer(batch[1], engine.call_engine(), own.settings, store=store, fitted=own.fitted)

        before = store.reused
        try:
            for what, traces in results_of(run, batches, engine.parallel_calls, engine.interrupt):
                self._count(traces)
                yield what, traces
        except RunEndedError:
            self._folder.close()
            self._others.close()
            raise
        self._summary.resumed += store.reused - before

    def _count(self, traces: Sequence[Trace]) -> None:
        rule = self._settings.selection if self._settings.strategy == "dualfocus" else None
        for trace in traces:
            self._summary.add_trace(trace, self._calibration)
            self._outcomes.add_trace(trace, rule, self._calibration)
            if trace.error:
                logger.warning(one_line(f"{trace.key} failed: {trace.error.kind}: {trace.error.message}"))

    def scored(
        self, batches: Iterable[tuple[B, Sequence[tuple[Question, str]]]]
    ) -> Iterator[tuple[B, list[Likelihood | Failure]]]:
        """Likelihoods of texts as answers to their questions, batches as in `answered`. They are not stored: a rerun
        scores them again."""
        engine = self.engine

        def run(batch: tuple[B, Targets]) -> tuple[B, Targets, list[Likelihood | Failure]]:
            return *batch, loglikelihood(batch[1], engine.call_engine(), self._settings)

        for what, targets, results in results_of(run, batches, engine.parallel_calls, engine.interrupt):
            self._summary.add_scores(targets, results)
            for (question, _), result in zip(targets, results, strict=True):
                self._outcomes.add_score(question.key, result)
            yield what, results

    def refuse_likelihoods(self) -> None:
        """Raise ``UserError`` where likelihoods are asked for that the strategy or the engine does not have."""
        refuse_likelihoods(self.config.settings, self.engine)

    def warn(self, text: str) -> None:
        """Tell the user now, below the summary and in the results that something is not as it was asked for."""
        if self._accelerator.is_main_process and text not in self._warnings:
            self._warnings.append(text)
            logger.warning(one_line(text))

    def take_flags(self, flags: Mapping[str, Any], tasks: Collection[str], grouped: Collection[str] = ()) -> None:
        """Go by lmms-eval's own ``flags``: take over its system instruction, warn of what has no effect on ``tasks``,
        of which in ``grouped`` several rows make one question.

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
        for message in without_effect(flags, tasks, grouped):
            self.warn(message)

    def finish(self) -> None:
        """Close the traces, add up the counts of all ranks, show them and free the model.

        What the results are to carry is kept for `add_to_results`.
        """
        if self._engine:
            self._summary.add_counters(self._engine.counters.since(self._before))
            self._summary.prefix_cache_gib += self._engine.prefix_cache_bytes / GIB
            for warning in self._engine.warnings:
                self.warn(warning)
            release_engine(self._engine)
        self._others.close()
        self._folder.finish(self._summary)
        self._engine = None
        if self._accelerator.num_processes > 1:
            summaries, outcomes = zip(*gather_object([(self._summary, self._outcomes)]), strict=True)
            self._summary, self._outcomes = Summary.merged(summaries), Outcomes.merged(outcomes)
        self._finished = self.record, self._outcomes
        if self._accelerator.is_main_process:
            print_summary(
                self._summary,
                str(self.trace_folder),
                self._warnings,
                no_reuse=self._no_reuse,
                limited_reuse=self._limited_reuse,
            )
        self._summary, self._outcomes, self._warnings = Summary(), Outcomes(), []

    def add_to_results(self, results: dict[str, Any]) -> None:
        """Add the record of the run that has just finished to lmms-eval's results, and say what failed."""
        if self._finished is None:
            return
        record, outcomes = self._finished
        self._finished = None
        add_to_results(results, record, outcomes)
        if notice := failure_notice(record):
            print_failures(notice)

    def _show_settings(self) -> None:
        options = {
            name: getattr(self.config.engine, name) for name in IMAGE_OPTIONS if hasattr(self.config.engine, name)
        }
        values = asdict(self._settings) | options
        lines = [f"{name}={value} ({self.config.sources[name]})" for name, value in values.items()]
        logger.info(f"dualfocus {self.config.engine.described}: " + ", ".join(lines))
