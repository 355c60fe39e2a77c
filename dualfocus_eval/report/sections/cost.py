"""What the answers cost: images encoded, tokens computed and reused, decode steps, time per phase (table 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dualfocus_eval.analysis.rows import COUNTERS, PHASES
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Section

__all__ = ["Overhead", "cost_section", "of_servers", "overhead", "second_pass_share", "times", "totals"]

_CROP = ["cluster", "crop_left", "crop_top", "crop_right", "crop_bottom"]


@dataclass(frozen=True)
class Overhead:
    """What a run computed, beside what its macro answers alone need; NaN where it is not known."""

    images: int
    """Images and crops, each counted once."""
    macro_images: int
    tokens: int
    """Generated tokens."""
    macro_tokens: int
    seconds: float
    macro_seconds: float
    """An estimate, as `second_pass_share`."""


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


def overhead(run: Run) -> Overhead | None:
    """What the second pass added to the run; None where there are no macro answers or no micro answers."""
    rows = run.answers
    macro, boxes, micro = (_sum(rows[f"{name}_tokens"].to_numpy()) for name in ("macro", "box", "micro"))
    if not (macro and micro):
        return None
    crops = len(rows.loc[rows["micro_text"].notna(), _CROP].drop_duplicates().dropna())
    images = int(rows.loc[rows["macro_text"].notna(), "cluster"].nunique())
    tokens = macro + boxes + micro
    spent = totals(run)
    seconds = sum(spent[f"seconds_{phase}"] for phase in PHASES if phase != "detector")
    decoding = spent["seconds_decode"] / seconds if seconds else math.nan
    share = (1 - decoding) * images / (images + crops) + decoding * macro / tokens
    total = seconds + spent["seconds_detector"]
    return Overhead(images + crops, images, int(tokens), int(macro), total or math.nan, share * seconds)


def _overhead_table(run: Run) -> dict[str, Table]:
    """`overhead`, a row for each kind of work that is known."""
    found = overhead(run)
    if found is None:
        return {}
    rows: list[tuple[Cell, ...]] = [
        ("generated tokens", found.tokens, found.macro_tokens, times(found.tokens, found.macro_tokens))
    ]
    if not of_servers(run):
        rows.insert(0, ("images and crops", found.images, found.macro_images, times(found.images, found.macro_images)))
    if not math.isnan(found.macro_seconds):
        ratio = times(found.seconds, found.macro_seconds)
        rows.append(("time", Number(found.seconds, unit="s"), Number(found.macro_seconds, unit="s"), ratio))
    notes = (
        "An image or crop counts once, however many questions are about it. The time of one pass is an estimate: "
        "images stand for preprocessing, vision and prefill, generated tokens for decoding.",
    )
    header = ("what", "this run", "one pass (macro)", "times")
    return {"overhead": Table("Cost against one pass", header, (tuple(rows),), notes)}


def times(run: float, one_pass: float) -> Number:
    """How many times the cost of one pass."""
    return Number(run / one_pass if one_pass else math.nan)


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
