"""The model ``dualfocus`` as lmms-eval sees it: a chat and a simple class over one pipeline."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.utils import simple_parse_args_string
from tqdm import tqdm

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.fitting import refuse_tasks_without_boxes
from dualfocus_eval.harness.outcomes import extend_evaluator
from dualfocus_eval.harness.questions import chat_question, simple_question
from dualfocus_eval.harness.requests import (
    ImageKeys,
    Request,
    flags_of,
    group_by_image,
    is_padding,
    read_chat,
    read_simple,
)
from dualfocus_eval.harness.session import Session
from dualfocus_eval.harness.structure import read_structure
from dualfocus_eval.harness.together import other_runs
from dualfocus_eval.method.question import Question
from dualfocus_eval.traces.record import Trace

__all__ = ["DualFocusChat", "DualFocusSimple"]


_FAILED = (math.inf, False)
"""A likelihood that could not be computed: never the lowest; the question counts as failed."""


class _DualFocus(lmms):
    """What both classes share: the run, the order of work, and answers in the order in which they were asked."""

    def __init__(self, **arguments: Any) -> None:
        accelerator = Accelerator()
        placed = arguments.get("device") or arguments.get("device_map") or arguments.get("engine") == "server"
        if accelerator.num_processes > 1 and not placed:
            arguments["device"] = str(accelerator.device)
        self._begin(Session(resolve(arguments), accelerator, others=other_runs(arguments)), accelerator)

    def _begin(self, session: Session, accelerator: Accelerator) -> None:
        super().__init__()
        self.session, self.accelerator = session, accelerator
        self._rank: int = accelerator.process_index
        self._world_size: int = accelerator.num_processes
        extend_evaluator()

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str | Mapping[str, Any], additional_config: dict[str, Any] | None = None
    ) -> _DualFocus:
        """Like lmms-eval's own, but a model argument wins over the flag of the same name (both clash there).

        From Python, lmms-eval hands over a dictionary of arguments as it is.
        """
        flags = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if isinstance(arg_string, Mapping):
            return cls(**(flags | dict(arg_string)))
        try:
            arguments = simple_parse_args_string(arg_string)
        except ValueError as error:
            raise UserError(f"--model_args: {arg_string!r} is not NAME=VALUE,NAME=VALUE,...") from error
        return cls(**(flags | arguments))

    @property
    def device(self) -> torch.device:
        """Where lmms-eval may put tensors that it exchanges between ranks."""
        return torch.device(self.accelerator.device)

    @property
    def chat_template(self) -> str | None:
        """The checkpoint's, which is always applied; lmms-eval notes it under ``--apply_chat_template``."""
        return self.session.engine.chat_template

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The texts of ``messages``, for a context; the engine applies the chat template to the whole conversation."""
        return "".join(message["content"] for message in messages)

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answers in the order of ``requests``; a question that failed is answered by an empty text."""
        self._take_flags(requests)
        read = [None if is_padding(instance) else self._read(instance) for instance in requests]
        self._warn_of_ignored(request for request in read if request)
        started = time.perf_counter()
        traces: dict[str, Trace] = {}
        asked = [request for request in read if request]
        self.session.note_progress(asked, flags_of(requests))
        with self._progress(len(asked)) as progress:
            for batch, found in self.session.answered(self._batches(asked)):
                traces |= {request.key: trace for request, trace in zip(batch, found, strict=True)}
                progress.update(len(batch))
        self._log_throughput(list(traces.values()), time.perf_counter() - started)
        return [_result(traces[request.key]) if request else GenerationResult("") for request in read]

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """(mean NLL per token, whether greedy decoding gives it) of each continuation; lower is better.

        lmms-eval 0.7.3 turns a bare pair into text before it scores; inside its own result type it arrives whole.
        """
        self._take_flags(requests)
        self.session.refuse_likelihoods()
        read = [None if is_padding(instance) else read_simple(instance) for instance in requests]
        texts = [self._continuation(instance, request) for instance, request in zip(requests, read, strict=True)]
        wanted: dict[tuple[str, str], list[str]] = {}
        for request, text in zip(read, texts, strict=True):
            if request and text not in wanted.setdefault(request.identity, []):
                wanted[request.identity].append(text)
        scores: dict[tuple[tuple[str, str], str], tuple[float, bool]] = {}
        asked = [request for request in read if request]
        batches = ((batch, _targets(batch, questions, wanted)) for batch, questions in self._batches(asked))
        with self._progress(len(asked)) as progress:
            for batch, found in self.session.scored(batches):
                places = [(request.identity, text) for request in batch for text in wanted[request.identity]]
                for place, score in zip(places, found, strict=True):
                    scores[place] = _FAILED if isinstance(score, Failure) else (score.nll, score.greedy)
                progress.update(len(batch))
        pairs = [
            scores[request.identity, text] if request else _FAILED for request, text in zip(read, texts, strict=True)
        ]
        return [GenerationResult(pair) for pair in pairs]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Refused: the two passes are DualFocus's own rounds."""
        raise UserError(
            f"task {requests[0].task_name}: tasks of several rounds (generate_until_multi_round) are not supported by "
            "dualfocus; its two passes answer one question. Choose a task with output_type generate_until"
        )

    def clean(self) -> None:
        """lmms-eval's only hook at the end of a run: close the traces, show what was done, free the model."""
        self.session.finish()
        super().clean()

    def add_to_results(self, results: dict[str, Any]) -> None:
        """Called by `outcomes.extend_evaluator` once the answers are scored."""
        self.session.add_to_results(results)

    def _take_flags(self, instances: Sequence[Instance]) -> None:
        tasks = {instance.task_name: instance.metadata for instance in instances}
        structures = {name: read_structure(metadata, name) for name, metadata in tasks.items()}
        refuse_tasks_without_boxes(
            self.session.config.settings,
            {name: structure.box for name, structure in structures.items()},
            {name: self._columns(name) for name in structures},
        )
        grouped = [name for name, structure in structures.items() if structure.grouped_rows]
        self.session.take_flags(flags_of(instances), tasks, grouped)

    def _warn_of_ignored(self, requests: Iterable[Request]) -> None:
        ignored = {(request.task, name) for request in requests if request.limits for name in request.limits.ignored}
        for task, name in sorted(ignored):
            self.session.warn(f"task {task}: generation argument {name} has no effect")

    def _batches(self, requests: Sequence[Request]) -> Iterator[tuple[list[Request], list[Question]]]:
        """Batches of distinct questions, those about one image together; documents are decoded batch by batch."""
        ordered = group_by_image(requests, ImageKeys(self.task_dict))
        size = self.session.batch_size
        for begin in range(0, len(ordered), size):
            batch = ordered[begin : begin + size]
            yield batch, [self._question(request) for request in batch]

    def _progress(self, total: int) -> Any:
        return tqdm(total=total, desc="dualfocus", disable=self.rank != 0)

    @abstractmethod
    def _read(self, instance: Instance) -> Request: ...

    @abstractmethod
    def _question(self, request: Request) -> Question: ...

    def _dataset(self, request: Request) -> Any:
        return self.task_dict[request.task][request.split]

    def _columns(self, task: str) -> set[str]:
        """Those of the task's documents; none where the task does not tell."""
        splits = self.task_dict.get(task, {}).values()
        return {name for split in splits for name in getattr(split, "column_names", None) or ()}

    def _continuation(self, instance: Instance, request: Request | None) -> str:
        target = instance.args[1]
        if request is None or isinstance(target, str):
            return str(target)
        return str(target(self._dataset(request)[request.doc_id]))

    def _log_throughput(self, traces: Sequence[Trace], seconds: float) -> None:
        tokens = sum(_generated_tokens(trace) for trace in traces)
        log_metrics(
            total_elapsed_time=seconds,
            total_gen_tokens=tokens,
            avg_speed=tokens / seconds if seconds else 0.0,
            additional_metrics={"questions": len(traces)},
        )


class DualFocusChat(_DualFocus):
    """For tasks that lmms-eval hands out as messages: all that generate."""

    is_simple = False

    def _read(self, instance: Instance) -> Request:
        return read_chat(instance)

    def _question(self, request: Request) -> Question:
        return chat_question(request, self._dataset(request), self.session.system_prompt)


class DualFocusSimple(_DualFocus):
    """For ``--force_simple`` and for tasks that compare likelihoods."""

    is_simple = True

    def _read(self, instance: Instance) -> Request:
        return read_simple(instance)

    def _question(self, request: Request) -> Question:
        return simple_question(request, self._dataset(request), self.session.system_prompt)


def _targets(
    batch: Sequence[Request], questions: Sequence[Question], wanted: Mapping[tuple[str, str], Sequence[str]]
) -> list[tuple[Question, str]]:
    """Every question of a batch with each of the texts that are wanted for it."""
    return [
        (question, text)
        for request, question in zip(batch, questions, strict=True)
        for text in wanted[request.identity]
    ]


def _generated_tokens(trace: Trace) -> int:
    """Tokens of every text that the question cost: box, macro and micro answer, each with what was thought before."""
    completions = (trace.grounding and trace.grounding.response, trace.macro, trace.micro)
    return sum(completion.generated for completion in completions if completion)


def _result(trace: Trace) -> GenerationResult:
    return GenerationResult(trace.text, TokenCounts(output_tokens=_generated_tokens(trace)))
