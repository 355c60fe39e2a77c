"""What became of each question, and how it reaches lmms-eval's results: its rows, its table and its files.

lmms-eval has no place where a model can add to the results. Its function ``evaluate`` makes them; ours is called in its
place, calls it, and adds to what it returns. So the command line, the Python API and every task get the same.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dualfocus_eval.common.escaping import json_number
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.method.pipeline import Likelihood
from dualfocus_eval.method.selection import costs_of
from dualfocus_eval.method.selection.base import SelectionRule
from dualfocus_eval.traces.record import Trace

__all__ = ["FAILED_METRIC", "Outcomes", "add_to_results", "extend_evaluator", "failure_notice"]

FAILED_METRIC = "failed"
"""The metric of every task and group that counts its failed questions."""

Row = dict[str, Any]
"""One question's part of lmms-eval's sample files: the field ``dualfocus``."""


@dataclass(frozen=True)
class Outcomes:
    """A row for every question of a run, by its key (task and document number)."""

    rows: dict[str, Row] = field(default_factory=dict)

    def add_trace(self, trace: Trace, rule: str | None, fitted: SelectionRule | None = None) -> None:
        """Keep what reports and other tools ask of an answer; ``rule`` decides between two candidates, ``fitted`` being
        the calibrated choice if it names one."""
        box = trace.grounding.box if trace.grounding else None
        costs = costs_of(trace, fitted).get(rule) if rule else None
        self.rows[trace.key] = {
            "answer": trace.text,
            "macro": trace.macro and trace.macro.text,
            "micro": trace.micro and trace.micro.text,
            "selected": trace.selected,
            "decision": _text(trace.decision),
            "rule": rule,
            "nll_macro": json_number(costs[0]) if costs else None,
            "nll_micro": json_number(costs[1]) if costs else None,
            "box": [*box.corners] if box else None,
            "fallback": _text(trace.fallback),
            "failure": _failure(trace.error),
        }

    def add_score(self, key: str, result: Likelihood | Failure) -> None:
        """Keep how the scoring of a given text ended; a question that failed for any of its texts has failed."""
        if isinstance(result, Failure):
            self.rows[key] = {"fallback": None, "failure": _failure(result)}
        else:
            self.rows.setdefault(key, {"fallback": _text(result.fallback), "failure": None})

    def by_task(self) -> dict[str, dict[str, Any]]:
        """For each task how many questions were asked, and how many of them failed for which reason."""
        counts: dict[str, dict[str, Any]] = {}
        for key, row in self.rows.items():
            task = counts.setdefault(key.rpartition("/")[0], {"questions": 0, "failures": Counter()})
            task["questions"] += 1
            if row["failure"]:
                task["failures"][row["failure"]["kind"]] += 1
        return {name: task | {"failures": dict(task["failures"])} for name, task in counts.items()}

    @classmethod
    def merged(cls, parts: Iterable[Outcomes]) -> Outcomes:
        """Those of all ranks."""
        return cls({key: row for part in parts for key, row in part.rows.items()})


def extend_evaluator() -> None:
    """Let lmms-eval's ``evaluate`` hand its results to a model's ``add_to_results``; repeated calls are free."""
    from lmms_eval import evaluator

    original = evaluator.evaluate
    if hasattr(original, "with_dualfocus"):
        return

    @functools.wraps(original)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        results = original(*args, **kwargs)
        add = getattr(kwargs["lm"] if "lm" in kwargs else args[0], "add_to_results", None)
        if results is not None and add is not None:  # only the first rank has results
            add(results)
        return results

    evaluate.with_dualfocus = True  # type: ignore[attr-defined]
    evaluator.evaluate = evaluate


def add_to_results(results: dict[str, Any], record: Mapping[str, Any], outcomes: Outcomes) -> None:
    """Add to lmms-eval's ``results`` the run's ``record`` (as ``dualfocus``), the number of failed questions of every
    task and group (`FAILED_METRIC`), a remark in the name under which the tables show a task with failures, and
    to each sample its question's row (as ``dualfocus``).
    """
    results["dualfocus"] = dict(record)
    for task, samples in results.get("samples", {}).items():
        for sample in samples:
            sample["dualfocus"] = outcomes.rows.get(f"{task}/{sample['doc_id']}")
    names = set(results["results"]) | set(results.get("groups", ()))
    for name in names:
        asked, failures = _counts(name, record["tasks"], results["group_subtasks"])
        results["higher_is_better"][name] = {**results["higher_is_better"].get(name, {}), FAILED_METRIC: False}
        for part in ("results", "groups"):
            if name in results.get(part, {}):
                _mark(results[part][name], name, asked, failures.total())


def _counts(
    name: str, tasks: Mapping[str, Mapping[str, Any]], members: Mapping[str, Iterable[str]]
) -> tuple[int, Counter[str]]:
    """Questions and failures of a task, or of all tasks below a group."""
    own = tasks.get(name, {"questions": 0, "failures": {}})
    asked, failures = own["questions"], Counter(own["failures"])
    for member in members.get(name, ()):
        more, failed = _counts(member, tasks, members)
        asked, failures = asked + more, failures + failed
    return asked, failures


def _mark(values: dict[str, Any], name: str, asked: int, failed: int) -> None:
    values[f"{FAILED_METRIC},none"] = failed
    if failed:
        values["alias"] = f"{values.get('alias', name)} ({failed} of {asked} questions FAILED)"


def failure_notice(record: Mapping[str, Any]) -> str | None:
    """What stands above the scores of a run with failed questions; None for one without."""
    failures = Counter(record["summary"]["failures"])
    if not failures:
        return None
    kinds = ", ".join(f"{kind} {count}" for kind, count in failures.most_common())
    return f"{failures.total()} of {record['summary']['questions']} questions failed ({kinds})"


def _failure(error: Failure | None) -> Row | None:
    return {"kind": error.kind, "message": error.message} if error else None


def _text(value: str | None) -> str | None:
    """Plain text of what may be a member of an enumeration."""
    return None if value is None else str(value)
