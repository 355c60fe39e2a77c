"""What the speed benchmark measured, and docs/performance.md made from it."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dualfocus_eval.method.question import Question
from measurements.performance_model import ANSWER_TOKENS, BOX_TOKENS

__all__ = ["NAIVE", "SINGLE", "Comparison", "Contender", "named", "page", "table", "verdicts"]

NAIVE = "naive two-pass"
SINGLE = "llava_hf, single pass"
MOST_WORK = 1.15
MOST_WALL = {1: 0.5, 6: 0.3}
COMMAND = "python -m measurements.performance --write"
NEWLINE = "\n"
HEADER = (
    "| questions per image | system | batch | GFLOP per question | ÷ floor | wall s | ÷ naive | CPU s | ÷ naive |",
    "|---|---|---|---|---|---|---|---|---|",
)
"""Seconds are per question."""


@dataclass(eq=False)
class Contender:
    """One way to answer; ``batch`` questions at a time."""

    name: str
    batch: int
    answer: Callable[[Sequence[Question]], Sequence[Any]]
    every: int = 1
    """It answers each n-th question only; for those to whom every question is as dear as any other."""
    wall: list[float] = field(default_factory=list)
    """Seconds per question, by round."""
    cpu: list[float] = field(default_factory=list)
    flops: float = 0.0
    """Per question."""
    answers: dict[int, Any] = field(default_factory=dict)
    """By the question's number."""


def named(entrants: Sequence[Contender], name: str) -> Contender:
    """The one of that name."""
    return next(contender for contender in entrants if contender.name == name)


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that was measured for one number of questions per image."""

    images: int
    per_image: int
    entrants: Sequence[Contender]
    floor: float
    """Operations per question."""
    problems: Sequence[str] = ()

    @property
    def ours(self) -> list[Contender]:
        return [contender for contender in self.entrants if contender.name not in (NAIVE, SINGLE)]

    @property
    def naive(self) -> Contender:
        return named(self.entrants, NAIVE)

    @property
    def best(self) -> Contender:
        """Ours at the batch size that is fastest; without times, the largest."""
        if not self.naive.wall:
            return self.ours[-1]
        return min(self.ours, key=lambda contender: _ratio(contender.wall, self.naive.wall))


def table(results: Sequence[Comparison]) -> list[str]:
    """Markdown."""
    return [*HEADER, *(line for result in results for line in _rows(result))]


def _rows(result: Comparison) -> list[str]:
    lines = []
    for contender in result.entrants:
        times = ["", "", "", ""]
        if contender.wall:
            wall, cpu = statistics.median(contender.wall), statistics.median(contender.cpu)
            to_naive = _ratio(contender.wall, result.naive.wall), _ratio(contender.cpu, result.naive.cpu)
            times = [f"{value:.2f}" for value in (wall, to_naive[0], cpu, to_naive[1])]
        to_floor = "" if contender.name == SINGLE else f"{contender.flops / result.floor:.2f}"
        figures = [f"{contender.flops / 1e9:,.1f}", to_floor, *times]
        lines.append(f"| {result.per_image} | {contender.name} | {contender.batch} | {' | '.join(figures)} |")
    return [*lines, f"| {result.per_image} | floor | | {result.floor / 1e9:,.1f} | 1.00 | | | | |"]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over rounds: within each, both took turns."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def verdicts(result: Comparison) -> list[tuple[str, bool]]:
    """The targets at batch 1 and at the best batch, and whether each is met."""
    lines = []
    for contender in dict.fromkeys((result.ours[0], result.best)):
        where = f"{result.per_image} per image, batch {contender.batch}"
        work = contender.flops / result.floor
        lines.append((f"{where}: operations {work:.2f} times the floor, at most {MOST_WORK} wanted", work <= MOST_WORK))
        if contender.wall:
            wall, limit = _ratio(contender.wall, result.naive.wall), MOST_WALL[result.per_image]
            lines.append((f"{where}: wall time {wall:.2f} times naive, at most {limit} wanted", wall <= limit))
    return lines


def machine() -> str:
    """What the figures were taken on."""
    listed = Path("/proc/cpuinfo")
    text = listed.read_text() if listed.exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)}"


def page(results: Sequence[Comparison], model: Any, options: argparse.Namespace, minutes: float) -> str:
    """docs/performance.md."""
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    text, vision = model.config.text_config, model.config.vision_config
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lmms-eval"))
    images = ", ".join(f"{r.images} with {r.per_image}" for r in results)
    problems = [problem for result in results for problem in result.problems]
    same = "All systems gave the same answers, token for token, and scores that agree to 0.001."
    if problems:
        same = "**The systems gave different answers:**\n" + "\n".join(f"- {problem}" for problem in problems)
    elif not results[0].naive.wall:
        same = "Operations only: nothing was timed, and answers were not compared."
    targets = [f"- {'met' if kept else '**missed**'}: {line}" for result in results for line, kept in verdicts(result)]
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"""# Performance

`{COMMAND}` measures and writes this page. No number here is typed by hand.

{NEWLINE.join(table(results))}

{NEWLINE.join(targets)}

{same}

## What was measured

- **dualfocus**: the pipeline over the in-process engine, with macro answer, box, crop, micro answer, and both
  candidates scored. A batch is a number of questions. The prefix cache is empty at the start of each round.
- **{NAIVE}**: the same work in plain transformers, one conversation at a time (`measurements/naive.py`). It uses
  transformers' key/value cache within an answer, and computes the output layer only where it is needed.
- **{SINGLE}**: lmms-eval's own model class on the same weights, with one answer, no box, no crop and no scores.
- **floor**: each distinct image through the vision encoder once, each distinct token position (same tokens and images
  before it) through the decoder once with strictly causal attention, and one output layer per prediction
  (`measurements/flop_floor.py`). No exact method needs fewer operations.

torch's `FlopCounterMode` counts the operations, attention included. It counts masked attention in full; the floor
counts only what is attended to. Operations depend only on lengths, so they are counted without being executed
(`measurements/flop_count.py`). Times are medians over rounds, and ratios are medians of each round's ratio. Within a
round, the systems take turns question by question, so that other work on the machine affects all of them equally. CPU
seconds exclude the time in which the process waited for a core. {NAIVE} and {SINGLE} treat all questions alike and
answer one of {options.sample}.

- Model: random LLaVA, {parameters:,.0f} M parameters, float32; vision encoder of
  {vision.num_hidden_layers} layers of {vision.hidden_size}, decoder of {text.num_hidden_layers} layers of
  {text.hidden_size}, vocabulary {text.vocab_size}; an image of {vision.image_size} pixels makes
  {model.config.image_seq_length} tokens.
- Answers of {ANSWER_TOKENS} tokens, boxes of {BOX_TOKENS}; the end token's output weight is zero, so that no answer
  ends earlier. Random weights write no box, so both two-pass systems keep the generated tokens and read them as a
  fixed box. Both change the micro answer's last token, so that the candidates differ and are scored.
- Images: {images} questions; seed {options.seed}, the weights' seed 0; {len(results[0].naive.wall)} timed rounds.
- Machine: {machine()}; load average (1, 5, 15 minutes) {loads} at the end of {minutes:.0f} minutes.
- {versions}, Python {platform.python_version()}.
"""
