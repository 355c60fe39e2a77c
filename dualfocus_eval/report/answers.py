"""A finished run read back: lmms-eval's results joined with our traces, every candidate scored by its task.

The trace of a question holds both candidates and what each selection rule picks, so one run shows what macro alone,
micro alone, every rule and the oracle are worth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualfocus_eval.errors import UserError
from dualfocus_eval.method.selection import RULES, Rule
from dualfocus_eval.method.store import join_traces
from dualfocus_eval.method.trace import Trace

__all__ = ["CHOICES", "Choice", "RunAnswers", "ScoredAnswer", "read_run", "rule_choice", "score_choices"]

Choice = Literal["macro", "micro", "own rule", "micro rule", "released rule", "oracle"]
CHOICES: tuple[Choice, ...] = ("macro", "micro", "own rule", "micro rule", "released rule", "oracle")
"""What can be taken as the answer: one pathway, what a rule selects, or the better of both pathways."""

_RULE_CHOICES: dict[Rule, Choice] = {"own": "own rule", "micro": "micro rule", "released": "released rule"}


def rule_choice(rule: Rule) -> Choice:
    """The choice that a selection rule makes."""
    return _RULE_CHOICES[rule]


@dataclass(frozen=True)
class ScoredAnswer:
    """One question of a run, and what its task's own scoring function says about each choice."""

    task: str
    doc_id: int
    doc: Mapping[str, Any]
    """The task's document without its images."""
    trace: Trace
    metrics: Mapping[Choice, Mapping[str, Any]]
    """The task's ``process_results`` for the text of each choice; ``score`` is 1.0 for a right answer."""

    def score(self, choice: Choice) -> float:
        return float(self.metrics[choice]["score"])

    @property
    def cluster(self) -> str:
        """Questions of one cluster share an image."""
        return self.trace.images[0].digest if self.trace.images else self.trace.key


@dataclass(frozen=True)
class RunAnswers:
    """All answers of one run, and its results."""

    record: Mapping[str, Any]
    """What the model left in the results (`harness.run.Run.record`)."""
    seconds: float
    """Wall time of the evaluation, model loading included."""
    tasks: Mapping[str, Any]
    """lmms-eval's task objects by name."""
    answers: Sequence[ScoredAnswer]

    def of(self, task: str) -> list[ScoredAnswer]:
        """The answers of one task, in the order of its documents."""
        return [answer for answer in self.answers if answer.task == task]


def read_run(folder: Path) -> RunAnswers:
    """The newest run below ``folder``, which lmms-eval wrote with ``--log_samples``.

    Raises ``UserError`` where results, samples or traces are missing or do not belong together.
    """
    path = max(folder.rglob("*_results.json"), key=lambda found: found.stat().st_mtime, default=None)
    if path is None:
        raise UserError(f"{folder} holds no results of lmms-eval (*_results.json): the run did not end well")
    results = json.loads(path.read_text(encoding="utf-8"))
    record = results["config"].get("resolved_cli_args", {}).get("dualfocus")
    if record is None:
        raise UserError(f"{path} is not from --model dualfocus: it does not say where the traces are")
    traces = {trace.key: trace for trace in join_traces(record["traces"], record["settings_key"])}
    prefix = path.name.removesuffix("_results.json") + "_samples_"
    samples = {file.stem.removeprefix(prefix): file for file in sorted(path.parent.glob(f"{prefix}*.jsonl"))}
    if not samples:
        raise UserError(f"{path} has no sample files beside it: run with --log_samples")
    tasks = _load_tasks(list(samples))
    answers = [
        _scored(sample, task, name, traces, record["settings"]["selection"])
        for name, task in tasks.items()
        for sample in _samples(samples[name])
    ]
    return RunAnswers(record, float(results["total_evaluation_time_seconds"]), tasks, answers)


def _load_tasks(names: list[str]) -> dict[str, Any]:
    from lmms_eval.tasks import TaskManager, get_task_dict

    from dualfocus_eval.harness.task_index import index_our_tasks

    index_our_tasks()
    found: dict[str, Any] = get_task_dict(names, TaskManager("ERROR", model_name="dualfocus"))
    return {name: found[name] for name in names}


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from sorted(map(json.loads, file), key=lambda sample: sample["doc_id"])


def _scored(sample: Mapping[str, Any], task: Any, name: str, traces: Mapping[str, Trace], rule: Rule) -> ScoredAnswer:
    doc_id = sample["doc_id"]
    trace = traces.get(f"{name}/{doc_id}")
    if trace is None:
        raise UserError(f"question {name}/{doc_id} has no trace: run again, only what is missing is computed")
    doc = task.eval_docs_no_media[doc_id]
    metrics = score_choices(trace, lambda text: task.process_results(doc, [text.strip()]))
    answer = ScoredAnswer(name, doc_id, doc, trace, metrics)
    if answer.score(rule_choice(rule)) != sample["score"]:
        raise UserError(
            f"question {name}/{doc_id}: lmms-eval's results give the answer {sample['score']}, its trace "
            f"{answer.score(rule_choice(rule))}: they are not of one run; delete the output folder and run again"
        )
    return answer


def score_choices(trace: Trace, score: Callable[[str], Mapping[str, Any]]) -> dict[Choice, Mapping[str, Any]]:
    """What ``score`` says about the text of each choice.

    Without a micro candidate the micro pathway falls back to macro, as it does when it runs alone; a failed question
    answers nothing.
    """
    macro = score(trace.macro.text if trace.macro else "")
    micro = score(trace.micro.text) if trace.micro else macro
    metrics: dict[Choice, Mapping[str, Any]] = {"macro": macro, "micro": micro}
    for rule in RULES:
        metrics[rule_choice(rule)] = micro if trace.reselected(rule).selected == "micro" else macro
    metrics["oracle"] = micro if micro["score"] > macro["score"] else macro
    return metrics
