"""``dualfocus report`` on real runs: every number of every table again from the raw files, by code of its own."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.common.resources import resource_folder
from tests.integration.conftest import BIN, Outcome, Run, read_traces, runner
from tests.integration.recomputed import overview_tables, read_answers, tables_of
from tests.integration.recomputed.cells import Table
from tests.integration.recomputed.differences import page_differences, table_differences
from tests.integration.recomputed.shown import read_tables

SCENES, POPE = "df_scenes_mini", "df_pope_mini_random"
LETTERED = ("df_seed_img_mini", "df_mmbench_en_mini", "df_gqa_mcq_mini")
LIMIT = 32
SETTINGS = "selection=own_context,score_all=true"
Tables = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def run(folder: Path, environment: dict[str, str]) -> Run:
    return runner(folder, environment)


def evaluated(run: Run, tasks: str, settings: str, output: str) -> Outcome:
    size = ["--limit", str(LIMIT), "--batch_size", "8"]
    outcome = run("dualfocus", "eval", "--model_args", settings, "--tasks", tasks, *size, output=output)
    assert outcome.status == 0, outcome.output
    return outcome


@pytest.fixture(scope="module")
def full(run: Run, folder: Path) -> Outcome:
    """A run of all minis. The embedded checkpoint names no letters: of multiple choice the stored answers are replaced
    by readable ones, and a second run, which takes them from the store, scores them."""
    real = evaluated(run, "df_mini", SETTINGS, "real")
    (folder / "full" / "traces").mkdir(parents=True)
    with (folder / "full" / "traces" / "traces.rank0000.jsonl").open("w") as file:
        for trace in read_traces(folder / "real" / "traces"):
            task, _, number = trace["key"].rpartition("/")
            target = real.samples[task, int(number)]["target"]
            file.write(json.dumps(with_letters(trace, target) if task in LETTERED else trace) + "\n")
    again = evaluated(run, "df_mini", SETTINGS, "full")
    assert again.record["summary"]["resumed"] == 10 * LIMIT
    return again


def with_letters(trace: dict[str, Any], target: str) -> dict[str, Any]:
    """The same trace, its candidates being mostly right in many spellings, and each rule's pick drawn anew."""
    chance = random.Random(trace["key"])
    spellings = ("{}", "{}.", "({})", "{}: this one", "[0.10, 0.20, 0.30, 0.40]")
    for name in ("macro", "micro"):
        if trace[name]:
            answer = chance.choices((target, "A", "B", "C", "D"), (12, 1, 1, 1, 1))[0]
            trace[name]["text"] = chance.choices(spellings, (4, 3, 2, 2, 1))[0].format(answer)
    if trace["picks"]:
        trace["picks"] = {rule: chance.choice(("macro", "micro")) for rule in trace["picks"]}
        trace |= {"selected": trace["picks"]["own_context"], "decision": "only_valid_option"}
    return trace


@pytest.fixture(scope="module")
def alone(run: Run) -> Mapping[str, Outcome]:
    """Runs of one pathway only."""
    return {name: evaluated(run, f"{SCENES},{POPE}", f"strategy={name}", name) for name in ("macro", "micro")}


@pytest.fixture(scope="module")
def report(folder: Path, full: Outcome, alone: Mapping[str, Outcome], environment: dict[str, str]) -> Path:
    """The report of all three runs."""
    runs = [str(folder / name) for name in ("full", *alone)]
    done = subprocess.run(
        [str(BIN / "dualfocus"), "report", *runs, "--out", str(folder / "report")],
        env=environment, capture_output=True, text=True, timeout=1800, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "report"


REPORTS = {"1-full": "full", "2-macro": "macro", "3-micro": "micro"}
"""Which run each report below the overview is about."""


@pytest.fixture(scope="module")
def recomputed(folder: Path, report: Path) -> dict[str, dict[str, Table]]:
    """The tables of each report, from the files of its run."""
    published = resource_folder("reports") / "published.yaml"
    return {name: tables_of(folder / run, published) for name, run in REPORTS.items()}


@pytest.mark.parametrize("name", REPORTS)
def test_every_number_of_a_report_follows_from_the_files_of_its_run(
    name: str, report: Path, recomputed: dict[str, dict[str, Table]]
) -> None:
    assert table_differences(read_tables(report / name), recomputed[name]) == []


def test_the_overview_has_every_runs_scores(report: Path, folder: Path) -> None:
    runs = {name: read_answers(folder / run) for name, run in REPORTS.items()}
    assert table_differences(read_tables(report), overview_tables(runs)) == []


@pytest.mark.parametrize("name", [".", *REPORTS])
def test_pages_and_csv_show_the_numbers_of_the_tables(name: str, report: Path) -> None:
    assert page_differences(report / name, read_tables(report / name)) == []


def with_another_table(tables: Tables) -> None:
    tables["new"] = tables["split"]


def without_a_table(tables: Tables) -> None:
    del tables["pope"]


def with_another_column(tables: Tables) -> None:
    tables["split"]["header"].append("new")


def without_a_row(tables: Tables) -> None:
    tables["categories_df_seed_img_mini"]["rows"].pop()


def with_another_number(tables: Tables) -> None:
    tables["calibration"]["rows"][0]["AUROC %"]["value"] += 1e-6


def with_another_interval(tables: Tables) -> None:
    tables["pope"]["rows"][0]["F1"]["low"] += 1e-6


def with_another_count(tables: Tables) -> None:
    tables["work"]["title"] = "Work for 1,000 questions"


@pytest.mark.parametrize(
    "changed",
    [
        with_another_table, without_a_table, with_another_column, without_a_row, with_another_number,
        with_another_interval, with_another_count,
    ],
)  # fmt: skip
def test_what_is_not_recomputed_is_found(
    changed: Callable[[Tables], None], report: Path, recomputed: dict[str, dict[str, Table]]
) -> None:
    tables = read_tables(report / "1-full")
    changed(tables)
    assert len(table_differences(tables, recomputed["1-full"])) == 1


def rows_of(report: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a table of the full run's report, measured cells as plain numbers."""
    return [
        {key.removesuffix(" *"): cell["value"] if isinstance(cell, dict) else cell for key, cell in row.items()}
        for row in read_tables(report / "1-full")[name]["rows"]
    ]


@pytest.mark.parametrize("pathway", ["macro", "micro"])
def test_a_run_of_one_pathway_gives_the_numbers_that_the_full_run_promised(
    pathway: str, alone: Mapping[str, Outcome], report: Path
) -> None:
    scores = alone[pathway].scores
    for row in rows_of(report, "strategies"):
        if row["task"] in (SCENES, POPE):
            assert row[pathway] == pytest.approx(100 * scores[row["task"]]["accuracy,none"], abs=1e-9)
    (row,) = [r for r in rows_of(report, "pope") if (r["task"], r["answer"].removesuffix(" *")) == (POPE, pathway)]
    for metric, name in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"), ("yes_ratio", "yes ratio")):
        assert row[name] == pytest.approx(100 * scores[POPE][f"{metric},none"], abs=1e-9)
    for row in rows_of(report, f"categories_{SCENES}"):
        assert row[pathway] == pytest.approx(100 * scores[SCENES][f"{row['category']},none"], abs=1e-9)
