"""The inspector's files: what lies beside the page, and what is left alone. `tests.integration` opens it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.report.asking_again import asking_again
from dualfocus_eval.report.inspector_data import CHUNK, Entry, Facet, Index, Range, data_files, write_data
from dualfocus_eval.report.kept_pictures import copy_pictures, kept_pictures
from dualfocus_eval.report.writing import report_run, report_runs
from dualfocus_eval.tiny.effect import SCENES
from tests.analysis.runs import answered, run_of, scene, write_run
from tests.integration.inspected import pictures, run_at, some

DIGESTS = [picture.digest for picture in pictures(5)]


def content(path: Path) -> Any:
    """What a data file hands to the page."""
    text = path.read_text(encoding="ascii")
    return json.loads("[" + text[text.index("(") + 1 : text.rindex(")")] + "]")


def index_of(**values: Any) -> Index:
    plain: dict[str, Any] = {"title": "", "about": (), "notes": (), "facets": (), "ranges": (), "runs": ()}
    return Index(**(plain | {"pictures": None} | values))


def test_a_report_takes_its_pictures_along_without_doubling_them(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run", some(7))
    report_run(run, tmp_path / "report")
    found = sorted(path.stem for path in (tmp_path / "report" / "images").iterdir())
    assert found == sorted(DIGESTS)
    for digest in DIGESTS:
        own, kept = (tmp_path / place / f"{digest}.jpg" for place in ("report/images", "run/traces/images"))
        assert own.samefile(kept)


def test_another_report_replaces_the_pictures_of_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "report"
    report_run(run_at(tmp_path / "first", some(7)), out)
    report_run(run_at(tmp_path / "second", some(1)), out)
    assert [path.stem for path in (out / "images").iterdir()] == [DIGESTS[0]]
    assert len(list((tmp_path / "first" / "traces" / "images").iterdir())) == 5
    report_run(run_at(tmp_path / "third", some(1), kept=False), out)
    assert not (out / "images").exists()
    listed = set(json.loads((out / "files.json").read_text())["files"])
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == listed


def test_somebodys_file_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "inspect.html").write_text("mine")
    with pytest.raises(UserError, match=r"inspect\.html is there and is not of an earlier report"):
        report_run(run_at(tmp_path / "run", some(1)), tmp_path / "report")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["inspect.html"]


def test_each_of_several_runs_has_its_own_page(tmp_path: Path) -> None:
    runs = {name: run_at(tmp_path / name, some(count)) for name, count in (("one", 1), ("two", 2))}
    report_runs(runs, [], tmp_path / "out")
    for name, count in (("one", 1), ("two", 2)):
        assert content(tmp_path / "out" / name / "inspect" / "index.js")[0]["count"] == count
    report_run(runs["one"], tmp_path / "out")
    assert not (tmp_path / "out" / "two").exists()


def test_a_link_among_the_pictures_is_not_followed(tmp_path: Path) -> None:
    run = run_at(tmp_path / "run", some(1))
    secret = tmp_path / "secret"
    secret.write_text("secret")
    picture = tmp_path / "run" / "traces" / "images" / f"{DIGESTS[0]}.jpg"
    picture.unlink()
    picture.symlink_to(secret)
    assert kept_pictures(run).files == {}


def test_pictures_are_copied_where_they_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", link)
    (tmp_path / "picture").write_bytes(b"picture")
    copy_pictures({"a" * 32: tmp_path / "picture"}, tmp_path / "images")
    assert (tmp_path / "images" / f"{'a' * 32}.jpg").read_bytes() == b"picture"


def test_a_run_that_has_no_single_answers_has_no_page(tmp_path: Path) -> None:
    run = run_of([answered(SCENES, scene(1, "red"), "red", "blue")])
    index = report_run(replace(run, answers=run.answers.iloc[:0], computed={}), tmp_path / "out")
    assert not index.with_name("inspect.html").exists()
    assert "inspect.html" not in index.read_text()


def test_data_are_json_in_ascii_in_files_of_equal_length(tmp_path: Path) -> None:
    hostile = "</script>\u2028\U0001f600 \x00 é"
    facet = Facet("kind", "Kind", {"b": "second", "a": "first"}, wanted=("a", "none"))
    entries = [
        Entry("task", place, [("a", "c") if place % 2 else None], [math.nan if place else 0.123456789], [hostile], {})
        for place in range(2 * CHUNK + 1)
    ]
    write_data(tmp_path, index_of(facets=[facet], ranges=[Range("gap", "Gap")]), iter(entries))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(data_files(len(entries)))
    (index,) = content(tmp_path / "index.js")
    (found,) = index["facets"]
    assert [value["label"] for value in found["values"]] == ["first", "c"]
    assert found["sets"] == [[], [0, 1]]
    assert found["codes"][:3] == [0, 1, 0]
    assert found["wanted"]["values"] == [0]
    assert index["ranges"][0]["values"][:2] == [0.123457, None]
    assert [len(content(tmp_path / f"cards-0000{part}.js")[1]) for part in range(3)] == [CHUNK, CHUNK, 1]
    assert content(tmp_path / "texts-00000.js")[1][0] == hostile


def arguments_of(folder: Path, settings: dict[str, tuple[Any, str]], **engine: Any) -> str:
    path = write_run(folder, [answered(SCENES, scene(1, "red"), "red", "blue")], **engine) / "1_results.json"
    record = json.loads(path.read_text())["config"]["resolved_cli_args"]["dualfocus"]
    record["settings_from"] = {}
    for name, (value, source) in settings.items():
        record["settings"][name], record["settings_from"][name] = value, source
    answers = run_of([answered(SCENES, scene(1, "red"), "red", "blue")]).answers
    asked = asking_again(Run(path, {"config": {}}, record, answers))
    assert asked
    return str(asked["model_args"])


@pytest.mark.parametrize(
    ("settings", "engine", "expected"),
    [
        ({}, {}, "pretrained=some/checkpoint"),
        ({"margin": (10.0, "argument")}, {"dtype": "float64"}, "pretrained=some/checkpoint,dtype=float64,margin=10.0"),
        ({"margin": (10.0, "default")}, {}, "pretrained=some/checkpoint"),
        ({"margin": (10.0, "recipe")}, {}, "pretrained=some/checkpoint,margin=10.0"),
        ({"margin": (10.0, "recipe")}, {"pretrained": "/somewhere/models/dualfocus-tiny"}, ""),
        ({"adaptive_nll": (None, "argument")}, {}, "pretrained=some/checkpoint,adaptive_nll=none"),
        ({"score_all": (False, "argument")}, {}, "pretrained=some/checkpoint,score_all=false"),
        ({}, {"pretrained": "a,b"}, 'pretrained="a,b"'),
    ],
)
def test_the_model_arguments_that_ask_again(
    tmp_path: Path, settings: dict[str, tuple[Any, str]], engine: dict[str, Any], expected: str
) -> None:
    assert arguments_of(tmp_path, settings, **engine) == expected


@pytest.mark.parametrize(("include_path", "found"), [(None, [SCENES, "my_own"]), (["/mine"], [SCENES])])
def test_a_task_of_a_users_folder_is_not_asked_by_its_name(include_path: Any, found: list[str]) -> None:
    run = run_of([answered(SCENES, scene(1, "red"), "red", "blue")])
    results = {**run.results, "config": {"resolved_cli_args": {"include_path": include_path}}}
    asked = asking_again(replace(run, results=results, tasks={**run.tasks, "my_own": None}, computed={}))
    assert asked
    assert asked["tasks"] == found
