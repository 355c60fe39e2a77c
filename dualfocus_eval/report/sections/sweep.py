"""A sweep: what each setting gains over the macro answer, what controls leave of the gain, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dualfocus_eval.analysis.choices import Choice, scores_of
from dualfocus_eval.analysis.intervals import Estimate
from dualfocus_eval.analysis.measures import rate, scale_notes, shown
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.analysis.sweeping import Effect, SettingCost, cost_of, effects_of, pareto_front
from dualfocus_eval.common.escaping import figure_text
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.section import Drawing, Section
from dualfocus_eval.report.sections.cost import of_servers
from dualfocus_eval.report.style import GREY, INK, panels

__all__ = ["sweep_sections"]

_ANSWERS: Mapping[Choice, str] = {"micro": "Micro answer", "selected": "Selected answer"}
_COLORS = ("#5b7aa6", "#d08c3f", "#1a7f5a", "#b42318", "#7a5ba6", "#2a9fb0", "#8a6d3b", "#d6336c")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def sweep_sections(macro: Run, runs: Mapping[str, Run], reference: str) -> list[Section]:
    """The settings ``runs`` by name beside the run of macro answers; ``reference`` is the one that controls control."""
    titles = {
        choice: title for choice, title in _ANSWERS.items() if any(choice in run.choices for run in runs.values())
    }
    if len(titles) == 1:
        titles = dict.fromkeys(titles, "Answer")
    gains = [
        _gain_section(choice, title, effects_of(macro, runs, choice, reference), reference)
        for choice, title in titles.items()
    ]
    return [*gains, _cost_section(macro, runs)]


def _gain_section(choice: Choice, title: str, effects: Mapping[str, Sequence[Effect]], reference: str) -> Section:
    text = (
        "Each setting's answers beside the macro answers to the same questions. "
        "Wrong to right and right to wrong count the questions that the second look gains and harms. "
        f"What is left of the gain: the setting's gain as a share of that of {reference}. What a control leaves "
        "over is not due to what it takes away."
    )
    if choice == "micro" or title == "Answer":
        text += " A question without a micro answer counts with its macro answer."
    tables = {
        f"{choice}_differences": _overview(title, effects),
        f"{choice}_gain_and_harm": _details(title, effects, reference),
    }
    return Section(choice, title, text, tables)


def _overview(title: str, effects: Mapping[str, Sequence[Effect]]) -> Table:
    """Settings by tasks."""
    fullest_first = sorted(effects.values(), key=len, reverse=True)  # a task may lack settings
    names = list(dict.fromkeys(effect.setting for found in fullest_first for effect in found))
    by_place = {(effect.setting, task): effect.comparison for task, found in effects.items() for effect in found}
    baseline: list[Cell] = ["macro (% right)"]
    for found in effects.values():
        first = found[0].comparison
        baseline.append(shown(Estimate(first.first, math.nan, math.nan), share=first.share))
    rows = [
        (name, *(_difference(by_place[name, task]) if (name, task) in by_place else None for task in effects))
        for name in names
    ]
    note = "Points, with the 95% interval (bootstrap over whole images)."
    return Table(
        f"{title} less macro answer", ("setting", *effects), ((tuple(baseline),), tuple(rows)), (note, *_own(effects))
    )


def _difference(comparison: Any) -> Number:
    return replace(shown(comparison.difference, share=comparison.share, unit="points"), signed=True)


def _details(title: str, effects: Mapping[str, Sequence[Effect]], reference: str) -> Table:
    """A row for each task and setting."""
    header = (
        "setting", "task", "n", "images", "macro %", "setting %", "difference", "wrong to right", "right to wrong",
        "p Holm", "left of the gain %",
    )  # fmt: skip
    sections = tuple(tuple(_detail(task, effect) for effect in found) for task, found in effects.items())
    tested = sum(effect.comparison.questions > 0 for found in effects.values() for effect in found)
    notes = (
        f"p Holm: McNemar's test by image, two-sided, adjusted for all {tested} rows. The score of each question is "
        "compared: MMBench by row, not by circular question, and POPE by accuracy.",
        f"Left of the gain: of that of {reference}; bootstrap over whole images. Empty where the interval of that gain "
        "does not exclude 0.",
        *_own(effects),
    )
    return Table(f"{title}: gain and harm", header, sections, notes)


def _detail(task: str, effect: Effect) -> tuple[Cell, ...]:
    found = effect.comparison
    return (
        effect.setting,
        task,
        found.questions,
        found.images,
        shown(Estimate(found.first, math.nan, math.nan), share=found.share),
        shown(Estimate(found.second, math.nan, math.nan), share=found.share),
        _difference(found),
        found.test.better,
        found.test.worse,
        Number(found.p_adjusted, decimals=4),
        shown(effect.remaining, share=True) if effect.remaining else None,
    )


def _own(effects: Mapping[str, Sequence[Effect]]) -> tuple[str, ...]:
    return scale_notes(
        [task for task, found in effects.items() if not all(effect.comparison.share for effect in found)]
    )


def _cost_section(macro: Run, runs: Mapping[str, Run]) -> Section:
    text = (
        "Work of the engine per question, as if each setting had been run alone: what settings have in common was "
        "computed once and counts for each of them. Times are those of the engine's phases, without loading and "
        "scoring."
    )
    every = {"macro": macro, **runs}
    costs = {
        task: {name: cost_of(run, task) for name, run in every.items() if task in run.task_names}
        for task in macro.task_names
    }
    header = (
        "setting", "task", "questions", "images encoded", "tokens prefilled", "tokens reused", "tokens decoded",
        "seconds",
    )  # fmt: skip
    served = of_servers(macro)
    rows = tuple(
        tuple(_cost(name, task, cost, served) for name, cost in found.items()) for task, found in costs.items()
    )
    notes = (
        "A batch with questions of two tasks counts for that of its first question.",
        *(("Servers count neither images nor time.",) if served else ()),
    )
    caption = (
        "Score of the answer that each setting gives against its cost, with 95% intervals. Tokens computed are those "
        "prefilled and decoded. Line: the Pareto front, the settings that no other one beats in both."
    )
    figures = {"accuracy_and_cost": Drawing(caption, lambda: _draw(every, costs))} if costs else {}
    return Section("cost", "Cost", text, {"cost": Table("Cost per question", header, rows, notes)}, figures)


def _cost(name: str, task: str, cost: SettingCost, served: bool) -> tuple[Cell, ...]:
    tokens = (cost.tokens_prefilled, cost.tokens_reused, cost.decode_steps)
    return (
        name,
        task,
        cost.questions,
        None if served else Number(cost.images_encoded, decimals=2),
        *(Number(count, decimals=2) for count in tokens),
        None if served else Number(cost.seconds, decimals=4),
    )


def _draw(runs: Mapping[str, Run], costs: Mapping[str, Mapping[str, SettingCost]]) -> Any:
    looks = _looks(list(runs))
    figure, axes = panels(len(costs), columns=2, width=4.6, height=3.4)
    for axis, (task, found) in zip(axes, costs.items(), strict=True):
        scores = {name: _score(runs[name], task) for name in found}
        points = [(cost.tokens, scores[name].value) for name, cost in found.items()]
        front = [points[place] for place in pareto_front(points)]
        if front:
            axis.plot(*zip(*front, strict=True), color=GREY, linewidth=1, drawstyle="steps-post", zorder=1)
        for name, (cost, value) in zip(found, points, strict=True):
            color, marker = looks[name]
            axis.plot([cost] * 2, [scores[name].low, scores[name].high], color=color, linewidth=0.8, alpha=0.6)
            axis.plot(cost, value, marker, color=color, markersize=6, label=figure_text(name), linestyle="none")
        axis.set_title(figure_text(task), fontsize=9)
        axis.set_xlabel("tokens computed per question", fontsize=8)
        axis.set_ylabel("score, %" if scores["macro"].unit == "%" else "score", fontsize=8)
    shown = {label: mark for axis in axes for mark, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    labels = [label for label in map(figure_text, runs) if label in shown]
    figure.legend([shown[label] for label in labels], labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour for each grounding method, a marker for each second pass; the macro answer is none of them."""
    parts = {name: name.split(" + ", 1) for name in names if " + " in name}
    groundings, passes = (list(dict.fromkeys(part[place] for part in parts.values())) for place in (0, 1))
    looks = {
        name: (_COLORS[groundings.index(one) % len(_COLORS)], _MARKERS[passes.index(two) % len(_MARKERS)])
        for name, (one, two) in parts.items()
    }
    return {"macro": (INK, "_"), **looks}


def _score(run: Run, task: str) -> Number:
    rows = run.of(task)
    return rate(scores_of(rows, "selected"), rows["cluster"])
