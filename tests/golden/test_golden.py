"""Every number of a report: as it was when somebody last looked at it, and with the properties that any run's has."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golden.pages import page_differences
from tests.golden.reports import ALONE, REPORTS, make_reports
from tests.golden.tables import Tables, differences, read_golden, read_tables


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reports(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden() -> dict[str, Tables]:
    return dict(read_golden())


@pytest.mark.parametrize("name", REPORTS)
def test_every_number_is_the_golden_one(name: str, report: Path, golden: dict[str, Tables]) -> None:
    """After a change that is meant to move numbers: make golden, and read the difference."""
    assert list(differences(read_tables(report / REPORTS[name]), golden[name])) == []


@pytest.mark.parametrize("name", REPORTS)
def test_pages_and_csv_show_the_numbers_of_the_tables(name: str, report: Path) -> None:
    tables = {path.stem: json.loads(path.read_text()) for path in (report / REPORTS[name] / "tables").glob("*.json")}
    assert page_differences(report / REPORTS[name], tables) == []


def with_another_table(tables: dict[str, Any]) -> None:
    tables["new"] = tables["split"]


def without_a_table(tables: dict[str, Any]) -> None:
    del tables["pope"]


def with_another_column(tables: dict[str, Any]) -> None:
    tables["split"]["header"].append("new")


def without_a_row(tables: dict[str, Any]) -> None:
    tables["categories_df_seed_img_mini"]["rows"].pop()


def with_another_number(tables: dict[str, Any]) -> None:
    tables["calibration"]["rows"][0]["AUROC %"]["value"] += 1e-6


def with_another_interval(tables: dict[str, Any]) -> None:
    tables["pope"]["rows"][0]["F1"]["low"] += 1e-6


def with_another_count(tables: dict[str, Any]) -> None:
    tables["work"]["title"] = "Work for 1,000 questions"


@pytest.mark.parametrize(
    "changed",
    [
        with_another_table, without_a_table, with_another_column, without_a_row, with_another_number,
        with_another_interval, with_another_count,
    ],
)  # fmt: skip
def test_a_planted_change_is_found(changed: Callable[[dict[str, Any]], None], golden: dict[str, Tables]) -> None:
    tables = copy.deepcopy(dict(golden["full"]))
    changed(tables)
    assert len(list(differences(tables, golden["full"]))) == 1


@pytest.fixture(scope="module", params=["full", "macro", "micro"])
def tables(request: pytest.FixtureRequest, report: Path) -> Tables:
    return read_tables(report / REPORTS[request.param])


def rows(tables: Tables, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a table, measured cells as plain numbers, without the star of the rule that decided."""
    for row in tables[name]["rows"]:
        yield {key.removesuffix(" *"): cell["value"] if isinstance(cell, dict) else cell for key, cell in row.items()}


def choices(row: dict[str, Any]) -> dict[str, float]:
    """The scores of all ways to take an answer."""
    return dict(list(row.items())[list(row).index("n") + 1 :])


def deciding(tables: Tables) -> str:
    return next((name.removesuffix(" *") for name in tables["strategies"]["header"] if name.endswith(" *")), "selected")


def test_intervals_contain_their_values(tables: Tables) -> None:
    cells = [cell for table in tables.values() for row in table["rows"] for cell in row.values()]
    measured = [cell for cell in cells if isinstance(cell, dict) and "low" in cell]
    assert len(measured) > 10
    for cell in measured:
        assert cell["low"] - 1e-9 <= cell["value"] <= cell["high"] + 1e-9


def test_what_decided_has_lmms_evals_own_score(tables: Tables) -> None:
    official = {(row["task"], row["metric"]): row["value"] for row in rows(tables, "official")}
    for row in rows(tables, "strategies"):
        own = official[row["task"], row["metric"]]
        assert row[deciding(tables)] == pytest.approx(100 * own, abs=1e-9)


def test_questions_add_up(tables: Tables) -> None:
    known = {row["what"]: row["value"] for row in tables["run"]["rows"]}
    sizes = {row["task"]: row["n"] for row in rows(tables, "strategies")}
    assert sum(sizes.values()) == known["questions"] == known["with a trace"]
    for name in {"split", "regret", "pope"} & tables.keys():
        assert all(row["n"] == sizes[row["task"]] for row in rows(tables, name))
    for row in rows(tables, "split") if "split" in tables else ():
        parts = [row[part] for part in ("both right", "macro only", "micro only", "neither")]
        assert sum(parts) == pytest.approx(100)


def test_no_rule_beats_the_oracle_and_regret_is_what_it_lacks(report: Path) -> None:
    tables = read_tables(report / REPORTS["full"])
    regret = {row["task"]: choices(row) for row in rows(tables, "regret")}
    assert len(regret) == 11
    for row in rows(tables, "strategies"):
        scores = choices(row)
        assert scores["oracle"] >= max(scores.values())
        if row["metric"] != "circular":  # which is no mean over questions
            assert min(scores.values()) >= scores["macro"] + scores["micro"] - scores["oracle"] - 1e-9
            for rule, lost in regret[row["task"]].items():
                assert lost == pytest.approx(scores["oracle"] - scores[rule], abs=1e-9)


def test_thresholds_lead_from_the_whole_run_to_the_macro_answers(report: Path) -> None:
    tables = read_tables(report / REPORTS["full"])
    named = {(row["task"], row["threshold"]): row for row in rows(tables, "adaptive")}
    for task, threshold in named:
        assert -1e-9 <= named[task, threshold]["micro passes skipped %"] <= 100 + 1e-9
    for row in rows(tables, "strategies"):
        first, last = named[row["task"], "none (full run)"], named[row["task"], "all (macro)"]
        assert (first["micro passes skipped %"], last["micro passes skipped %"]) == (0, 100)
        if row["metric"] != "circular":
            assert first["score %"] == pytest.approx(row[deciding(tables)])
            assert last["score %"] == pytest.approx(row["macro"])


@pytest.mark.parametrize("pathway", ["macro", "micro"])
def test_a_run_of_one_pathway_gives_the_numbers_that_the_full_run_promised(pathway: str, report: Path) -> None:
    full, alone = (read_tables(report / REPORTS[name]) for name in ("full", pathway))
    promised = {row["task"]: row[pathway] for row in rows(full, "strategies")}
    found = {row["task"]: row["selected"] for row in rows(alone, "strategies")}
    assert found.keys() == set(ALONE.split(","))
    assert found == {task: pytest.approx(promised[task], abs=1e-9) for task in found}
    metrics = ("precision", "recall", "F1", "yes ratio")
    (own,) = rows(alone, "pope")
    (row,) = [
        row for row in rows(full, "pope") if (row["task"], row["answer"].removesuffix(" *")) == (own["task"], pathway)
    ]
    assert [row[name] for name in metrics] == pytest.approx([own[name] for name in metrics])
    for name in {name for name in alone if name.startswith("categories_")}:
        parts = {row["category"]: row[pathway] for row in rows(full, name)}
        assert {row["category"]: row["selected"] for row in rows(alone, name)} == pytest.approx(parts)
