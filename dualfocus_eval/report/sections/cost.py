"""What the answers cost: images encoded, tokens computed and reused, decode steps, time per phase (table 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dualfocus_eval.analysis.rows import COUNTERS, PHASES
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Section

__all__ = ["GENERATED", "IMAGES", "cost_section", "of_servers", "overhead", "second_pass_share", "times", "totals"]

IMAGES, GENERATED = "images and crops", "generated tokens"
"""Kinds of work that `overhead` tells."""
_CROP = ["cluster", "crop_left", "crop_top", "crop_right", "crop_bottom"]


def totals(run: Run) -> dict[str, float]:
    """Sums over all traced questions, by counter and by phase (``seconds_PHASE``)."""
    columns = [f"cost_{counter}" for counter in COUNTERS] + [f"seconds_{phase}" for phase in PHASES]
    return {name.removeprefix("cost_"): float(value) for name, value in run.answers[columns].sum().items()}


def of_servers(run: Run) -> bool:
    """Whether servers answered, which count neither images nor phases."""
    return bool((run.record or {}).get("engine", {}).get("base_url"))


def cost_section(run: Run) -> Section:
    """Work and time, in all and per question."""
    text = (
        "Counted by the engine during the run. Answers reused from an earlier run count with their original cost. "
        "Times are those of the engine's phases, without model loading, image decoding and scoring."
    )
    spent = totals(run)
    questions = spent["questions"]
    if not questions:
        return Section("cost", "Cost", text)
    rows = run.answers
    generated = [
        (f"tokens of {name}", _sum(rows[f"{column}_tokens"].to_numpy()))
        for name, column in (("boxes (A1)", "box"), ("macro answers", "macro"), ("micro answers", "micro"))
    ]
    positions = spent["tokens_prefilled"] + spent["tokens_reused"]
    against = _overhead_table(run)
    if of_servers(run):
        return _on_servers(spent, positions, generated, against)
    seconds = sum(spent[f"seconds_{phase}"] for phase in PHASES)
    counts = [
        ("images encoded", spent["images_encoded"]),
        ("tokens prefilled", spent["tokens_prefilled"]),
        ("tokens reused", spent["tokens_reused"]),
        ("decode steps", spent["decode_steps"]),
        *generated,
    ]
    reuse = Number(100 * spent["tokens_reused"] / positions if positions else math.nan, unit="%")
    time: list[tuple[Cell, ...]] = [
        (name, Number(value, unit="s"), Number(1000 * value / questions, unit="ms"))
        for name, value in [*_phases(spent), ("all phases", seconds)]
    ]
    notes = (f"{reuse}% of all prompt tokens were reused from a cached prefix.",)
    tables = {
        **against,
        "work": _work(counts, questions, notes),
        "time": Table("Time", ("phase", "seconds", "ms per question"), (tuple(time),)),
    }
    return Section("cost", "Cost", text, tables)


def _phases(spent: Mapping[str, float]) -> list[tuple[str, float]]:
    """Each phase and its seconds; that of a detector only where there was one."""
    found = [(phase, spent[f"seconds_{phase}"]) for phase in PHASES]
    return [(phase, seconds) for phase, seconds in found if seconds or phase != "detector"]


def _on_servers(
    spent: Mapping[str, float],
    positions: float,
    generated: Sequence[tuple[str, float]],
    against: Mapping[str, Table],
) -> Section:
    """Servers tell neither how many images they encode nor how long their phases take."""
    text = (
        "Counted from the servers' replies. Answers reused from an earlier run count with their original cost. Servers "
        "do not tell how many images they encode."
    )
    counts = [
        ("prompt tokens", positions),
        ("of them told to be from the server's cache", spent["tokens_reused"]),
        ("tokens generated", spent["decode_steps"]),
        *generated,
    ]
    return Section("cost", "Cost", text, {**against, "work": _work(counts, spent["questions"])})


def _work(counts: Iterable[tuple[str, float]], questions: float, notes: tuple[str, ...] = ()) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, int(value), Number(value / questions, decimals=2)) for name, value in counts
    )
    return Table(f"Work for {int(questions):,} questions", ("what", "in all", "per question"), (rows,), notes)


def overhead(run: Run) -> dict[str, tuple[float, float]]:
    """What the run computed, and what its macro answers alone need, by kind of work; only the kinds that are known.

    Nothing without macro answers to all questions, or without any micro answer.
    """
    rows, spent = run.answers, totals(run)
    macro, boxes, micro = (_sum(rows[f"{name}_tokens"].to_numpy()) for name in ("macro", "box", "micro"))
    if "macro" not in run.choices or not (macro and micro):
        return {}
    tokens = macro + boxes + micro
    found = {GENERATED: (tokens, macro)}
    if of_servers(run):
        return found
    images = int(rows.loc[rows["macro_text"].notna(), "cluster"].nunique())
    crops = len(rows.loc[rows["micro_text"].notna(), _CROP].drop_duplicates().dropna())
    found = {IMAGES: (images + crops, images), **found}
    seconds = sum(spent[f"seconds_{phase}"] for phase in PHASES if phase != "detector")
    if seconds:
        decoding = spent["seconds_decode"] / seconds
        share = (1 - decoding) * images / (images + crops) + decoding * macro / tokens
        found["time, s"] = (seconds + spent["seconds_detector"], share * seconds)
    return found


def times(run: float, one_pass: float) -> Number:
    """How many times the cost of one pass."""
    return Number(run / one_pass)


def _overhead_table(run: Run) -> dict[str, Table]:
    rows: list[tuple[Cell, ...]] = [
        (kind, *(int(value) if kind in (IMAGES, GENERATED) else Number(value) for value in costs), times(*costs))
        for kind, costs in overhead(run).items()
    ]
    notes = (
        "An image or crop counts once, however many questions are about it. The time of one pass is an estimate: "
        "images stand for preprocessing, vision and prefill, generated tokens for decoding.",
    )
    header = ("what", "this run", "one pass (macro)", "times")
    return {"overhead": Table("Cost against one pass", header, (tuple(rows),), notes)} if rows else {}


def second_pass_share(run: Run, task: str) -> float:
    """An estimate of the second pass's share of a task's time: crops of all images, micro tokens of all generated.

    Images stand for preprocessing, vision and prefill, where image tokens are most of the work; an image or crop counts
    once, however many questions are about it. How time is divided between them and decoding is the whole run's, since
    a batch may hold questions of several tasks. NaN without counts.
    """
    spent, rows = totals(run), run.of(task)
    crops = rows.loc[rows["micro_text"].notna(), _CROP].drop_duplicates().dropna()
    images = len(crops) + int(rows.loc[rows["traced"], "cluster"].nunique())
    micro = _sum(rows["micro_tokens"].to_numpy())
    generated = sum(_sum(rows[f"{name}_tokens"].to_numpy()) for name in ("macro", "box", "micro"))
    seconds = sum(spent[f"seconds_{phase}"] for phase in PHASES if phase != "detector")
    if not (images and generated and seconds):
        return math.nan
    decoding = spent["seconds_decode"] / seconds
    return (1 - decoding) * len(crops) / images + decoding * micro / generated


def _sum(values: np.ndarray) -> float:
    return float(np.nansum(values))
