"""What a run did, counted question by question, merged over ranks, and shown as a short table at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.engines.base import Counters, Failure
from dualfocus_eval.method.pipeline import Likelihood
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.selection.calibration import Calibration
from dualfocus_eval.traces.record import Decision, Trace

__all__ = ["Summary", "print_failures", "print_summary"]


@dataclass
class Summary:
    """Counts over the questions of this run; summaries of several ranks add up."""

    questions: int = 0
    resumed: int = 0
    """Answers that were found in the trace store."""
    grounded: int = 0
    boxes_parsed: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    """Questions that failed or fell back because of a failure, by its kind."""
    examples: dict[str, str] = field(default_factory=dict)
    """Of each of these kinds the message of one failure."""
    out_of_thinking: int = 0
    """Questions that failed or fell back because ``max_thinking_tokens`` were too few."""
    skipped_micro: int = 0
    both_candidates: int = 0
    agreeing: int = 0
    """Questions whose two candidates are the same answer."""
    selected: Counter[str] = field(default_factory=Counter)
    fitted_on: int = 0
    """Questions about images that the calibrated choice was fitted on."""
    unwritten: int = 0
    """Answers that could not be stored."""
    rewritten: int = 0
    """Answers that vanished from the disk in mid-run and were stored anew."""
    pictures_unwritten: Counter[str] = field(default_factory=Counter)
    """Pictures that could not be kept in the trace folder, by the reason."""
    images_encoded: int = 0
    tokens_prefilled: int = 0
    tokens_reused: int = 0
    decode_steps: int = 0
    thinking_tokens: int = 0
    batch_halvings: int = 0
    requests: int = 0
    """Requests that servers answered; 0 where the model ran in process."""
    tokens_untold: int = 0
    """Of the tokens prefilled, those of which a server did not say whether it has reused them."""
    images_sent: int = 0
    images_named: int = 0
    """Of the images sent to servers, those that went by their name alone."""
    prefix_cache_gib: float = 0.0
    """Budget of the prefix cache, over all ranks."""
    seconds: Counter[str] = field(default_factory=Counter)

    def add_trace(self, trace: Trace, calibration: Calibration | None = None) -> None:
        """Count one answered or failed question."""
        self.questions += 1
        self.fitted_on += calibration is not None and any(calibration.has_seen(one.digest) for one in trace.images)
        problems = {problem.kind: problem.message for problem in (trace.error, trace.cause) if problem}
        self.causes.update(problems.keys())
        self.examples = problems | self.examples
        self.out_of_thinking += "thinking_budget" in problems
        if trace.error:
            self.failures[trace.error.kind] += 1
            return
        if trace.grounding:
            self.grounded += 1
            self.boxes_parsed += trace.grounding.box is not None
        if trace.fallback:
            self.fallbacks[str(trace.fallback)] += 1
        self.skipped_micro += trace.skipped_micro
        if trace.macro and trace.micro:
            self.both_candidates += 1
            self.agreeing += trace.decision == Decision.AGREEMENT
        self.selected[trace.selected or "none"] += 1

    def add_scores(self, targets: Sequence[tuple[Question, str]], results: Sequence[Likelihood | Failure]) -> None:
        """Count the questions whose given texts were scored; one that failed for any text has failed."""
        failed = {
            question.key: result.kind
            for (question, _), result in zip(targets, results, strict=True)
            if isinstance(result, Failure)
        }
        fallen = {
            question.key: result.fallback
            for (question, _), result in zip(targets, results, strict=True)
            if isinstance(result, Likelihood) and result.fallback
        }
        self.questions += len({question.key for question, _ in targets})
        self.failures.update(failed.values())
        self.fallbacks.update(fallen.values())

    def add_counters(self, counters: Counters) -> None:
        """Take over what the engine counted."""
        for name in vars(counters).keys() - {"seconds"}:
            setattr(self, name, getattr(self, name) + getattr(counters, name))
        self.seconds.update(counters.seconds)

    @classmethod
    def merged(cls, parts: Iterable[Summary]) -> Summary:
        """The sum over ranks; seconds add up too, as processor time does."""
        total = cls()
        for part in parts:
            for name, value in vars(part).items():
                known = getattr(total, name)
                setattr(total, name, value | known if name == "examples" else known + value)
        return total

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the counts say of the setup, and why pathways failed."""
        found = [
            f"{kind} ({count} question{'s' if count != 1 else ''}): {self.examples[kind]}"
            for kind, count in self.causes.most_common()
        ]
        if self.grounded and not self.boxes_parsed:
            found.append(
                f"no box was found for any of {self.grounded} questions, so all of them have the macro answer; run "
                "`dualfocus check` with the same --model_args"
            )
        if self.fitted_on:
            found.append(
                f"{self.fitted_on} of {self.questions} questions are about images that the calibrated choice was "
                "fitted on: their scores are no test of it, and reports leave them out where they judge it"
            )
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for the results file."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


def print_summary(
    summary: Summary,
    traces: str,
    warnings: Sequence[str] = (),
    console: Console | None = None,
    no_reuse: str | None = None,
    limited_reuse: str | None = None,
) -> None:
    """Show the table, where the answers are stored (``traces``), and what was not as it was asked for.

    ``no_reuse`` is the reason for which no prompt could begin with the states of another, where there is one, and
    ``limited_reuse`` that for which none of the second pass could begin with those of the first.
    """
    table = Table(title="dualfocus", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    for what, value in _rows(summary):
        table.add_row(what, value)
    console = console or Console()
    console.print(table)
    for what, reason in (("no prefix reuse", no_reuse), ("no prefix reuse by the second pass", limited_reuse)):
        if reason:
            console.print(one_line(f"{what}: {reason}"), soft_wrap=True, markup=False, highlight=False)
    console.print(one_line(f"traces: {traces}"), soft_wrap=True, markup=False, highlight=False)
    for warning in (*warnings, *summary.warnings):
        console.print(one_line(f"warning: {warning}"), style="yellow", soft_wrap=True, markup=False, highlight=False)


def print_failures(notice: str, console: Console | None = None) -> None:
    """Say above the scores that questions failed."""
    console = console or Console()
    console.print(one_line(f"dualfocus: {notice}"), style="bold red", markup=False, highlight=False, soft_wrap=True)
    console.print("The scores below include them as if they had been answered.", style="bold red", soft_wrap=True)


def _rows(summary: Summary) -> Iterable[tuple[str, str]]:
    yield "questions", f"{summary.questions}"
    if summary.resumed:
        yield "  answered earlier, from the traces", f"{summary.resumed}"
    yield from _by_kind("[red]failed questions[/red]", summary.failures)
    if summary.unwritten:
        yield "[red]answers that could not be stored[/red]", f"[red]{summary.unwritten}[/red]"
    if summary.rewritten:
        yield "answers that vanished from the traces, stored anew", f"{summary.rewritten}"
    yield from _by_kind("[red]pictures that could not be stored[/red]", summary.pictures_unwritten)
    if summary.grounded:
        yield "boxes parsed", _of(summary.boxes_parsed, summary.grounded)
    yield from _by_kind("fallbacks to macro", summary.fallbacks)
    if summary.out_of_thinking:
        yield "questions whose max_thinking_tokens ran out", _of(summary.out_of_thinking, summary.questions)
    if summary.skipped_micro:
        yield "micro passes skipped (adaptive)", _of(summary.skipped_micro, summary.questions)
    if summary.both_candidates:
        yield "macro and micro agree", _of(summary.agreeing, summary.both_candidates)
    for pathway, count in sorted(summary.selected.items()):
        yield f"selected {pathway}", _of(count, summary.questions)
    yield from _served(summary) if summary.requests else _computed(summary)
    if summary.thinking_tokens:
        yield "thinking tokens generated", f"{summary.thinking_tokens:,}"
    if summary.batch_halvings:
        yield "batches halved (out of memory)", f"{summary.batch_halvings}"
    for phase, seconds in summary.seconds.items():
        yield f"seconds in {phase}", f"{seconds:.1f}"


def _computed(summary: Summary) -> Iterable[tuple[str, str]]:
    """What this process did."""
    yield "images encoded", f"{summary.images_encoded:,}"
    yield "tokens prefilled", f"{summary.tokens_prefilled:,}"
    yield "tokens reused", f"{summary.tokens_reused:,}"
    yield "prefix cache, GiB at most", f"{summary.prefix_cache_gib:.3g}"


def _served(summary: Summary) -> Iterable[tuple[str, str]]:
    """What servers did, as far as they say so."""
    yield "requests", f"{summary.requests:,}"
    yield "images sent", f"{summary.images_sent:,}"
    if summary.images_named:
        yield "  by name alone", _of(summary.images_named, summary.images_sent)
    tokens = summary.tokens_prefilled + summary.tokens_reused
    yield "prompt tokens", f"{tokens:,}"
    told = tokens - summary.tokens_untold
    yield "  of them from the server's cache", _of(summary.tokens_reused, told) if told else "not told by the server"
    yield "tokens generated", f"{summary.decode_steps:,}"


def _by_kind(title: str, counts: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    if counts:
        yield title, f"{sum(counts.values())}"
    for kind, count in sorted(counts.items()):
        yield f"  {escape(one_line(kind))}", f"{count}"


def _of(count: int, total: int) -> str:
    return f"{count} of {total} ({count / total:.1%})" if total else "0"
