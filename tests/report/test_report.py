"""The report as files: complete, consistent, and safe whatever questions and answers hold."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as Xml

import pytest
from rich.console import Console

from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.analysis.runs import Fault, Run, print_faults
from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.tables import Table
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.gate.baseline import reduce_run
from dualfocus_eval.report.page import write_report
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.cost import cost_section
from dualfocus_eval.report.sections.published import published_tables
from dualfocus_eval.report.sections.strategies import STAR
from dualfocus_eval.report.writing import report_run, sections_of
from dualfocus_eval.tiny.effect import POPE, SCENES
from dualfocus_eval.traces.record import Cost, Trace
from tests.analysis.runs import Answered, answered, failing, read_with, run_of, scene, write_run
from tests.gate.gate import asked, gate_run

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)"> | `x` [link](javascript:alert(3)) $x_1$'


def some(extra: Sequence[Answered] = ()) -> list[Answered]:
    """Scenes and POPE questions on which every split occurs."""
    answers = ["red", "blue"]
    scenes = [
        answered(
            SCENES,
            scene(i, "red", kind="mark_color" if i % 3 else "text"),
            answers[i % 2],
            answers[i // 2 % 2] if i % 7 else None,
            doc_id=i + 1,
            image=f"{i // 2}",
            nlls=(0.1 + 0.05 * i, 0.9 - 0.03 * i),
        )
        for i in range(24)
    ]
    pope = [
        answered(
            POPE[0], {"answer": ("yes", "no")[i % 2], "image_source": f"{i // 2}"}, ("yes", "no")[i // 2 % 2], "yes",
            doc_id=i, image=f"{i // 2}", nlls=(0.02 * i, 0.3),
        )
        for i in range(12)
    ]  # fmt: skip
    cost = Cost(36, 70, 9_000, 20_000, 230, 0, {"vision": 1.5, "prefill": 2.0, "decode": 0.5})
    return [replace(scenes[0], trace=replace(scenes[0].trace, cost=cost)), *scenes[1:], *pope, *extra]


class Page(HTMLParser):
    """Tags and attributes of a page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "href") and value:
                self.targets.add(value)


def test_what_servers_do_not_count_is_not_reported_as_none() -> None:
    section = cost_section(run_of(some(), base_url=["http://one:8000/v1"]))
    assert list(section.tables) == ["overhead", "work"]
    assert [row[0] for row in section.tables["overhead"].rows] == ["generated tokens"]
    names = [row[0] for row in section.tables["work"].rows]
    assert names[:3] == ["prompt tokens", "of them told to be from the server's cache", "tokens generated"]
    assert not any("images" in str(name) for name in names)


def test_everything_that_the_page_refers_to_is_there(tmp_path: Path) -> None:
    index = report_run(run_of(some()), tmp_path / "out")
    page = Page(index.read_text())
    assert len(page.targets) > 40
    for target in page.targets:
        assert target.startswith("#") or (index.parent / target).is_file(), target
    for name in (
        "strategies",
        "categories_df_scenes_mini",
        "pope",
        "split",
        "calibration",
        "adaptive",
        "boxes",
        "work",
    ):
        assert f"tables/{name}.csv" in page.targets
        content = json.loads((index.parent / "tables" / f"{name}.json").read_text())
        with (index.parent / "tables" / f"{name}.csv").open() as file:
            assert len(list(csv.reader(file))) == len(content["rows"]) + 1
    for name in ("strategies", "adaptive", "perplexity", "reliability", "box_areas", "object_size", "questions"):
        for ending in ("svg", "png"):
            assert (index.parent / "figures" / f"{name}.{ending}").stat().st_size > 1_000
    for picture in (index.parent / "figures").glob("*.svg"):
        assert "mathdefault" not in picture.read_text(), picture  # an axis' label as the text of a formula
    pictures = re.findall(r"\]\((figures/[^)]+)\)", (index.parent / "report.md").read_text())
    assert len(pictures) > 6
    assert all((index.parent / picture).is_file() for picture in pictures)


def test_markup_in_questions_and_answers_is_only_text(tmp_path: Path) -> None:
    evil = answered(SCENES, scene(77, EVIL), EVIL, "red", doc_id=0, image="evil")
    evil = replace(evil, trace=replace(evil.trace, grounding=evil.trace.grounding, fallback=EVIL))
    index = report_run(run_of(some([evil])), tmp_path / "out")
    text = index.read_text()
    page = Page(text)
    assert "&lt;script&gt;" in text
    assert page.tags["script"] == 1  # the page's own
    assert not any(name.startswith("on") for name in page.attributes)
    assert all(target.startswith(("tables/", "figures/", "#", "inspect.html")) for target in page.targets)
    markdown = (index.parent / "report.md").read_text()
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "](javascript" not in markdown.replace("\\]", "")


def test_no_character_of_a_question_or_an_answer_acts_on_the_page(tmp_path: Path) -> None:
    acting = "\x00\x07\x1b[31m\u202e\x9b"
    row = answered(SCENES, scene(77, "red"), acting, "red", doc_id=0, image="acting")
    index = report_run(run_of(some([row])), tmp_path / "out")
    for path in [index, index.parent / "report.md", *index.parent.rglob("*.csv"), *index.parent.rglob("*.svg")]:
        assert not set(acting) - set("[31m") & set(path.read_text()), path
    assert r"\x00\x07\x1b[31m\u202e\x9b" in index.read_text()


def renamed(run: Run, names: Mapping[str, str]) -> Run:
    """``run``, tasks and metrics having other names."""

    def other(name: str) -> str:
        return names.get(name, name)

    def record(metrics: Any) -> Any:
        return metrics and {other(name): value for name, value in metrics.items()}

    def task(known: Any) -> Any:
        aggregation = {other(name): function for name, function in known.aggregation().items()}
        return SimpleNamespace(**{**vars(known), "aggregation": lambda: aggregation})

    results = json.loads(json.dumps(run.results))
    for part in ("results", "configs", "n-samples"):
        results[part] = {other(name): content for name, content in results[part].items()}
    for config in results["configs"].values():
        config["metric_list"] = [{"metric": other(entry["metric"])} for entry in config["metric_list"]]
    return replace(
        run,
        results=results,
        answers=run.answers.assign(task=run.answers["task"].map(other), key=run.answers["key"] + names[SCENES]),
        tasks={other(name): task(known) for name, known in run.tasks.items()},
        metrics={
            other(name): {choice: [*map(record, records)] for choice, records in choices.items()}
            for name, choices in run.metrics.items()
        },
        computed={},
    )


def test_no_name_of_a_task_a_metric_or_a_setting_breaks_or_acts(tmp_path: Path) -> None:
    """A dollar sign begins a formula in figures, half a character cannot be written, and the rest acts elsewhere."""
    hostile = "=1+1 $x_1 \\frac{$ <b onclick=x>|`](y) \x1b[2J\u202e\n# x"
    run = run_of(some())
    assert run.record
    names = {SCENES: f"{hostile} task", "mark_color": f"{hostile} metric"}
    record = {**run.record, "settings_from": {"margin": f"\ud800{hostile}"}}
    index = report_run(
        replace(renamed(run, names), record=record, faults=(Fault(1, f"\ud800{hostile}"),)), tmp_path / "out"
    )
    page = Page(index.read_text())
    assert "b" not in page.tags
    assert all((index.parent / unquote(target)).is_file() for target in page.targets if not target.startswith("#"))
    files = [path for path in index.parent.rglob("*") if path.suffix in (".html", ".md", ".csv", ".svg", ".json")]
    assert len(files) > 40
    for path in files:
        text = path.read_text()
        assert not set("\x1b\u202e") & set(text), path
        if path.suffix == ".svg":
            Xml.fromstring(text)
        if path.suffix == ".csv":
            cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
            assert not any(cell.startswith("=") for cell in cells), path
    markdown = (index.parent / "report.md").read_text()
    assert "<b" not in markdown
    assert not re.search(r"^# x|(?<!\\)\$", markdown, re.MULTILINE)
    pictures = re.findall(r"\]\((figures/[^)]+)\)", markdown)
    assert all((index.parent / unquote(picture)).is_file() for picture in pictures)


def test_very_long_answers_are_cut_where_they_are_shown(tmp_path: Path) -> None:
    long = answered(SCENES, scene(77, "red"), "word", "red", doc_id=0, image="long")
    text = Completion("word " * 2_000, (1,), (-0.1,), "length")
    long = replace(long, trace=replace(long.trace, macro=text))
    index = report_run(run_of(some([long])), tmp_path / "out")
    assert "(9,999 characters)" in index.read_text()
    assert index.stat().st_size < 500_000


def test_the_same_run_gives_the_same_report(tmp_path: Path) -> None:
    run = run_of(some())
    first, again = (report_run(run, tmp_path / name).parent for name in ("first", "again"))
    for path in sorted(first.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(first)).read_bytes(), path


@pytest.mark.parametrize(
    "change",
    [
        {"strategy": "macro"},
        {"strategy": "micro"},
        {"adaptive_nll": 0.5},
        {"selection": "own_context", "score_all": False},
    ],
)
def test_every_kind_of_run_is_reported(tmp_path: Path, change: dict[str, str]) -> None:
    answers = some()
    folder = write_run(tmp_path / "run", answers)
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    results["config"]["resolved_cli_args"]["dualfocus"]["settings"] |= change
    path.write_text(json.dumps(results))
    sections = {section.name: section for section in sections_of(read_with(folder, answers))}
    assert ("oracle" in sections["strategies"].tables["strategies"].header) == ("score_all" in change)
    assert sections["adaptive"].empty == ("score_all" not in change)


def test_a_run_whose_regions_came_without_words_is_reported_without_the_rules_that_need_them(tmp_path: Path) -> None:
    answers = [replace(answer, trace=_found_otherwise(answer.trace)) for answer in some()]
    run = run_of(answers)
    page = report_run(run, tmp_path / "out").read_text()
    header = {section.name: section for section in sections_of(run)}["strategies"].tables["strategies"].header
    assert [name for name in header if name.startswith(("own_context", "micro_context", "released"))] == [
        "own_context *",
        "micro_context",
    ]
    assert "centre" not in page


def _found_otherwise(trace: Trace) -> Trace:
    """The same question grounded by a method of another package, which has the model write nothing."""
    if trace.grounding is None:
        return trace
    picks = {name: pathway for name, pathway in trace.picks.items() if name != "released"}
    return replace(trace, picks=picks, grounding=replace(trace.grounding, response=None, method="centre"))


def test_a_run_of_another_model_and_one_without_samples_are_reported(tmp_path: Path) -> None:
    answers = some()
    folder = write_run(tmp_path / "run", answers)
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    results["config"] = {"resolved_cli_args": {}, "model": "llava_hf"}
    path.write_text(json.dumps(results))
    index = report_run(read_with(folder, answers), tmp_path / "out")
    rows = json.loads((index.parent / "tables" / "strategies.json").read_text())["rows"]
    assert [row["task"] for row in rows] == [SCENES, POPE[0]]
    assert "not of --model dualfocus" in index.read_text()
    for file in folder.glob("*_samples_*"):
        file.unlink()
    assert main(["report", str(folder), "--out", str(tmp_path / "totals")]) == 1
    assert "--log_samples" in (tmp_path / "totals" / "index.html").read_text()
    assert json.loads((tmp_path / "totals" / "tables" / "official.json").read_text())["rows"]


@pytest.mark.parametrize("noted", [True, False])
def test_failed_questions_are_named_at_the_top_and_beside_their_task(
    tmp_path: Path, noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes, pope = some()[:6], some()[24:30]
    pope[1:4] = [failing(pope[1]), failing(pope[2]), failing(pope[3], "too_long")]
    folder = write_run(tmp_path / "run", [*scenes, *pope])
    if not noted:  # as earlier versions wrote it
        path = folder / "1_results.json"
        results = json.loads(path.read_text())
        del results["config"]["resolved_cli_args"]["dualfocus"]["tasks"]
        path.write_text(json.dumps(results))
    run = read_with(folder, [*scenes, *pope])
    said = "3 of 6 questions failed (bad_image 2, too_long 1); the run's scores count them as if they had been answered"
    assert [(str(fault), fault.harmless) for fault in run.faults] == [(f"{said} (task {POPE[0]})", False)]
    page = report_run(run, tmp_path / "out").read_text()
    assert page.index(said.partition(";")[0]) < page.index("<section")
    print_faults(run, Console())
    assert "warning: 3 of 6 questions failed" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "tables" / "strategies.json").read_text())["rows"]
    assert [row["task"] for row in rows] == [SCENES, f"{POPE[0]} (3 of 6 FAILED)"]


def test_failed_questions_end_a_report_with_status_1(tmp_path: Path) -> None:
    folder = gate_run(tmp_path / "run", [asked(0, "yes"), failing(asked(1, "no"))])
    assert main(["report", str(folder), "--out", str(tmp_path / "out")]) == 1


def test_a_run_without_scores_is_said_to_have_none_and_its_traces_are_its_own(tmp_path: Path) -> None:
    """As lmms-eval writes it under --predict_only."""
    folder = gate_run(tmp_path / "run", [asked(0, "yes"), asked(1, "no", micro="yes")])
    path, samples = folder / "1_results.json", folder / f"1_samples_{POPE[0]}.jsonl"
    results = json.loads(path.read_text())
    results["results"] = {POPE[0]: {"alias": POPE[0], "bypass,none": 999, "failed,none": 0}}
    results["configs"][POPE[0]]["metric_list"] = [{"metric": "bypass"}]
    path.write_text(json.dumps(results))
    kept = ("doc_id", "target", "filtered_resps", "input")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    rows = [{name: line[name] for name in kept} | {"bypass": [[line["target"]], ["yes"]]} for line in lines]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(folder)
    said = "1 run was made with --predict_only: it has no scores"
    assert [(str(fault), fault.harmless) for fault in run.faults] == [(said, True)]
    assert run.answers["traced"].all()
    assert main(["report", str(folder), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert said in page
    assert "999" not in page
    with pytest.raises(UserError, match="--predict_only: it has no scores; run again without it"):
        reduce_run(run)


def test_what_cannot_be_read_costs_only_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", some())
    for file in folder.glob("*_samples_*"):
        file.unlink()
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert main(["report", str(folder), str(tmp_path / "empty"), "--out", str(out)]) == 1
    assert "empty holds no results" in capsys.readouterr().err
    assert "empty holds no results" in (out / "index.html").read_text()
    assert (out / "1-run" / "index.html").is_file()
    assert main(["report", str(tmp_path / "empty"), "--out", str(tmp_path / "none")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_nothing_of_an_earlier_report_stays(tmp_path: Path) -> None:
    def files() -> set[str]:
        return {path.name for path in (tmp_path / "out").rglob("*.*")}

    table = Table("A table", ("number",), (((1,),),))
    (tmp_path / "out" / "tables").mkdir(parents=True)
    (tmp_path / "out" / "tables" / "my_own.csv").touch()
    for name in ("before", "after"):
        write_report(tmp_path / "out", "A report", [Section("one", "One", "", {name: table})])
    assert files() == {"index.html", "report.md", "files.json", "after.csv", "after.json", "my_own.csv"}


@pytest.mark.parametrize("mine", ["index.html", "tables/one.csv", "files.json"])
def test_a_file_that_no_report_wrote_is_never_touched(tmp_path: Path, mine: str) -> None:
    section = Section("one", "One", "", {"one": Table("A table", ("number",), (((1,),),))})
    file = tmp_path / mine
    file.parent.mkdir(exist_ok=True)
    file.write_text("my own")
    with pytest.raises(UserError, match="is not of an earlier report"):
        write_report(tmp_path, "A report", [section])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "my own"


def test_a_list_of_files_cannot_name_any_outside(tmp_path: Path) -> None:
    section, out = Section("one", "One", "", {"one": Table("A table", ("number",), (((1,),),))}), tmp_path / "out"
    write_report(out, "A report", [section])
    (tmp_path / "precious.txt").touch()
    listed = json.loads((out / "files.json").read_text())
    (out / "files.json").write_text(json.dumps({**listed, "files": [*listed["files"], "../precious.txt"]}))
    write_report(out, "A report", [section])
    assert (tmp_path / "precious.txt").exists()


def test_no_run_of_an_earlier_report_stays(tmp_path: Path) -> None:
    """What somebody else has put beside them does."""
    for name in ("first", "second"):
        for file in write_run(tmp_path / name, some()).glob("*_samples_*"):
            file.unlink()  # totals alone make a quick report
    first, second, out = str(tmp_path / "first"), str(tmp_path / "second"), tmp_path / "out"

    def runs() -> set[str]:
        return {path.name for path in out.glob("*-*")}

    assert main(["report", first, second, "--out", str(out)]) == 1
    assert runs() == {"1-first", "2-second"}
    (out / "2-second" / "notes.txt").touch()
    (out / "3-mine").mkdir()
    (out / "3-mine" / "index.html").touch()
    assert main(["report", second, first, "--out", str(out)]) == 1
    assert runs() == {"1-second", "2-first", "2-second", "3-mine"}
    assert [path.name for path in (out / "2-second").iterdir()] == ["notes.txt"]
    assert (out / "1-second" / "index.html").is_file()
    assert main(["report", second, "--out", str(out)]) == 1
    assert runs() == {"2-second", "3-mine"}


def test_published_numbers_are_those_of_the_paper() -> None:
    tables = {table["table"]: table for table in published_tables()}
    assert sorted(tables) == list(range(1, 12))
    for table in tables.values():
        assert all(len(row["values"]) == len(table["columns"]) for row in table["rows"])
    # The gains that the paper's text states.
    gains = [
        [round(b - a, 1) for a, b in zip(base["values"][2:], ours["values"][2:], strict=True)]
        for base, ours in zip(tables[1]["rows"][::2], tables[1]["rows"][1::2], strict=True)
    ]
    assert gains == [[2.7, 2.3, 2.1, 3.8], [2.8, 3.0, 5.2, 4.2], [1.2, 2.6, 4.0, 2.2]]
    mmbench = [
        row["values"][table["columns"].index("MMBench")]
        for table in (tables[1], tables[2])
        for row in table["rows"]
        if row["row"] == "Qwen-VL-Chat"
    ]
    assert mmbench == [60.6, 58.2]
    assert all(value is None for row in tables[4]["rows"] for value in row["values"][:2])


def test_a_star_and_what_it_means_stand_together() -> None:
    for section in sections_of(run_of(some())):
        for name, table in section.tables.items():
            starred = any("*" in str(cell) for row in (table.header, *table.rows) for cell in row)
            assert any(STAR in note for note in table.notes) == starred or section.name in ("main", "published"), name
