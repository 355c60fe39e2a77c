"""What was run: model, settings with their sources, versions, tasks; and the overview of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualfocus_eval.analysis.measures import is_share, metric, scale_notes
from dualfocus_eval.analysis.runs import Run, engine_words
from dualfocus_eval.common.tables import Cell, Table
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.strategies import INTERVALS, official_table

__all__ = ["official_section", "overview_section", "run_section"]


def run_section(run: Run) -> Section:
    """The run's identity, as its results file has it."""
    config = run.results.get("config") or {}
    failed = sum(failures.kinds.total() for failures in run.failures.values())
    rows: list[tuple[Cell, ...]] = [
        ("results file", run.path.name),
        ("model", f"{config.get('model', '')} {_checkpoint(run) or config.get('model_args', '')}".strip()),
        *_engine(run),
        ("date", str(run.results.get("date", ""))),
        ("lmms-eval", _lmms_eval(run)),
        # lmms-eval asks git about the folder of its own installation, not about where it was started.
        ("git commit of lmms-eval's folder", str(run.results.get("lmms_eval_version") or "")),
        ("tasks", ", ".join(run.task_names)),
        ("questions", len(run.answers)),
        ("images", run.answers["cluster"].nunique()),
        ("with a trace", int(run.answers["traced"].sum())),
        ("failed", failed),
        ("wall time, model loading included", "" if run.seconds != run.seconds else f"{run.seconds:.0f} s"),
    ]
    if config.get("limit"):
        rows.append(("limit", f"{config['limit']}: only the first questions of each task, which flatters MMBench"))
    tables = {"run": Table("Run", ("what", "value"), (tuple(rows),))}
    if run.record:
        sources: Mapping[str, Any] = run.record["settings_from"]
        settings = tuple((name, str(value), str(sources.get(name, ""))) for name, value in run.settings.items())
        tables["settings"] = Table("Settings of the method", ("setting", "value", "from"), (settings,))
    return Section("run", "The run", "What ran, and with which settings.", tables)


def official_section(run: Run) -> Section:
    """lmms-eval's own numbers, unchanged."""
    text = "As in the results file, for the answers that the run selected. Shares are from 0 to 1."
    table = official_table(run)
    return Section("official", "lmms-eval's results", text, {"official": table} if table.rows else {})


def overview_section(runs: Mapping[str, Run]) -> Section:
    """The main metric of every task in every run, by the name of the folder that each run's report is in."""
    tasks = list(dict.fromkeys(task for run in runs.values() for task in run.task_names))
    rows: Sequence[tuple[Cell, ...]] = [
        (name, _checkpoint(run), *(_main(run, task) for task in tasks)) for name, run in runs.items()
    ]
    note = "Scores of the answers that each run selected. Paired differences of two runs: `dualfocus compare`."
    own = [task for task in tasks if not all(_is_share(run, task) for run in runs.values())]
    title = "Runs (%)" if len(own) < len(tasks) else "Runs"
    table = Table(title, ("run", "model", *tasks), (tuple(rows),), (INTERVALS, note, *scale_notes(own)))
    links = [(f"Report of {name}", f"{name}/index.html") for name in runs]
    return Section("runs", "Runs", "Every run has a report of its own.", {"runs": table}, links=links)


def _lmms_eval(run: Run) -> str:
    """Its version; what lmms-eval calls so in its results is the commit of the folder that it ran in."""
    environment = (run.record or {}).get("environment") or {}
    return str(environment.get("packages", {}).get("lmms-eval", "not recorded"))


def _engine(run: Run) -> list[tuple[Cell, ...]]:
    """What ran the model; of servers also where they were and what they could do. Nothing where it is not recorded."""
    record = run.record or {}
    environment = record.get("environment")
    if not environment:
        return []
    rows: list[tuple[Cell, ...]] = [("engine", engine_words(environment))]
    if addresses := record["engine"].get("base_url"):
        rows.append(("servers", ", ".join(addresses)))
    if abilities := environment.get("abilities"):
        rows.append(("abilities of the server", ", ".join(name for name, can in abilities.items() if can) or "none"))
    return rows


def _main(run: Run, task: str) -> Cell:
    main = run.main_metric(task)
    return metric(run, task, main, "selected")[1] if main and task in run.task_names else None


def _is_share(run: Run, task: str) -> bool:
    return is_share(run, task, str(run.main_metric(task)))


def _checkpoint(run: Run) -> str:
    """Its checkpoint, or the name under which a server has it; empty for a run of another model."""
    return run.model if run.record else ""
