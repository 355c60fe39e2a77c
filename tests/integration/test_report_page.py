"""The report's page in a real browser: what it opens with, what a reader does with it, what no text in it can do."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator

from dualfocus_eval.analysis.runs import Fault, Run
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.report.opening import Opening, TaskResult
from dualfocus_eval.report.page import write_report
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.writing import report_run, report_runs
from dualfocus_eval.tiny.effect import POPE, SCENES
from dualfocus_eval.traces.record import Cost
from tests.analysis.runs import Answered, answered, read_with, run_of, scene, write_run
from tests.integration.browser import OpenPage, Tab, overflow, serious_issues

WIDTHS = (1400, 420)
SCHEMES = ("light", "dark")
HOSTILE = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><svg onload='window.ran = 3'>",
    "javascript:window.ran=4",
    "[click](javascript:window.ran=5) </title></style></script><script>window.ran = 6</script>",
    "w" * 10_000,
    "_" * 10_000,
    "\u05e9\u05dc\u05d5\u05dd \u202e\u05e2\u05d5\u05dc\u05dd\u202c \u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 60,
    "zero\u200bwidth\u200d\ufeff\u2060",
    "{{ 7 * 7 }} {% raw %} ${x} \x1b[31m\x00",
)


def answers(count: int = 30) -> list[Answered]:
    """Scenes and POPE questions; selections that gain and lose, hostile texts, and one question without a box."""
    colors = ("red", "blue")
    scenes = [
        answered(
            SCENES, scene(i, "red", kind="mark_color" if i % 3 else "text"), colors[i % 2],
            colors[i // 2 % 2] if i % 7 else None, doc_id=i, image=f"{i // 2}", nlls=(0.1 + 0.05 * i, 0.9 - 0.03 * i),
        )
        for i in range(count)
    ]  # fmt: skip
    cost = Cost(36, 70, 9_000, 20_000, 230, 0, {"vision": 1.5, "prefill": 2.0, "decode": 0.5})
    scenes[0] = replace(scenes[0], trace=replace(scenes[0].trace, cost=cost))
    pope = [
        answered(
            POPE[0], {"answer": ("yes", "no")[i % 2], "image_source": f"{i // 2}"}, ("yes", "no")[i % 2],
            ("yes", "no")[i // 2 % 2], doc_id=i, image=f"p{i // 2}", nlls=(0.02 * i, 0.3),
        )
        for i in range(count)
    ]  # fmt: skip
    hostile = [
        answered(SCENES, scene(100 + i, text), text, "red", doc_id=100 + i, image=f"h{i}")
        for i, text in enumerate(HOSTILE)
    ]
    return [*scenes, *pope, *hostile]


@pytest.fixture(scope="module")
def run() -> Run:
    return run_of(answers())


@pytest.fixture(scope="module")
def index(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_run(run, tmp_path_factory.mktemp("report") / "out")


ROWS: tuple[tuple[tuple[Cell, ...], ...], ...] = (
    (
        ("b 10", Number(9.0, 1.0, 99.0), 1_000, None),
        ("a 9", Number(math.nan), 20, "x"),
        ("a 10", Number(10.0, 9.0, 10.5), 3, ""),
        ("", Number(-2.5), None, "y"),
    ),
    tuple((f"row {i}", Number(i % 7 + i / 100), i, None) for i in range(30)),
)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A page with one table of two groups, 34 rows, empty cells and intervals."""
    table = Table("Made", ("name", "score", "count", "text"), ROWS)
    return write_report(tmp_path / "made", "Made", [Section("made", "Made", "A table.", {"made": table})])


def column(tab: Tab, place: int, *, group: int = 0) -> list[str]:
    """The shown texts of a column in a group of rows, without intervals."""
    cells = tab.page.locator(f"tbody:nth-of-type({group + 1}) tr:not(.folded) td:nth-child({place + 1})")
    return [text.splitlines()[0].strip() if text.strip() else "" for text in cells.all_inner_texts()]


def row_of(tab: Tab, title: str, name: str) -> dict[str, str]:
    """A row of a table as the page shows it, by heading; the star of the deciding rule is the heading ``*``."""
    table = tab.page.locator("table", has=tab.page.locator("caption", has_text=re.compile(f"^{re.escape(title)}")))
    header = [one_line(text) for text in table.locator("thead th").all_inner_texts()]
    cells = table.locator("tbody tr", has=tab.page.locator("td:first-child", has_text=name)).first.locator("td")
    found = dict(zip(header, map(one_line, cells.all_inner_texts()), strict=True))
    starred = [heading for heading in found if heading.endswith("*")]
    return found | ({"*": found[starred[0]]} if starred else {})


def one_line(text: str) -> str:
    return " ".join(text.replace("\u200b", "").split())


def text_of(place: Locator, selector: str) -> str:
    return one_line(place.locator(selector).inner_text())


def test_the_page_opens_with_the_numbers_of_its_tables(index: Path, open_page: OpenPage) -> None:
    tab = open_page(index)
    lines = tab.page.locator(".results li")
    assert lines.count() == 2
    assert lines.last.is_visible()
    for line, task in zip(lines.all(), (SCENES, POPE[0]), strict=True):
        scores, gain = row_of(tab, "Strategies", task), row_of(tab, "Gain over macro alone", task)
        assert text_of(line, ".task").startswith(task)
        assert text_of(line, ".macro") == scores["macro"].partition(" ")[0]
        assert text_of(line, ".selected") == scores["*"].partition(" ")[0]
        shown = f"{text_of(line, '.difference')} {text_of(line, '.change .interval').strip('()')}"
        assert shown == gain["*"]
        assert text_of(line, ".count") == gain["n"]
        assert line.locator("svg.bar rect").count() == 5
    sentence = tab.page.locator(".lead").inner_text()
    for what, word in (("images and crops", "the images"), ("generated tokens", "the generated tokens")):
        assert f"{row_of(tab, 'Cost against one pass', what)['times']} times {word}" in sentence
    assert "the rule own_context selected" in sentence


def test_settings_and_published_numbers_come_after_the_results(index: Path, open_page: OpenPage) -> None:
    tab = open_page(index)
    order = [link.get_attribute("href") for link in tab.page.locator(".contents a").all()]
    assert order[:4] == ["#result", "#inspector", "#strategies", "#categories"]
    assert order[order.index("#questions") + 1 :] == ["#run", "#official", "#published"]
    sections = [f"#{section.get_attribute('id')}" for section in tab.page.locator("main section").all()]
    assert sections == order


def test_a_click_sorts_a_table_by_value_inside_of_its_groups(made: Path, open_page: OpenPage) -> None:
    tab = open_page(made)
    tab.page.get_by_role("button", name="show all 34 rows").click()
    name, score, count, text = tab.page.locator("thead .sort").all()
    heading = tab.page.locator("thead th")
    score.click()
    assert column(tab, 1) == ["10.0", "9.0", "-2.5", ""]
    values = [i % 7 + i / 100 for i in range(30)]
    expected = [f"row {i}" for i in sorted(range(30), key=values.__getitem__, reverse=True)]
    assert column(tab, 0, group=1) == expected
    assert heading.nth(1).get_attribute("aria-sort") == "descending"
    score.click()
    assert column(tab, 1) == ["-2.5", "9.0", "10.0", ""]
    assert heading.nth(1).get_attribute("aria-sort") == "ascending"
    score.click()
    assert column(tab, 0) == ["b 10", "a 9", "a 10", ""]
    assert heading.nth(1).get_attribute("aria-sort") is None
    name.click()
    assert column(tab, 0) == ["a 9", "a 10", "b 10", ""]
    count.click()
    assert column(tab, 2) == ["1,000", "20", "3", ""]
    assert heading.nth(0).get_attribute("aria-sort") is None
    text.click()
    assert column(tab, 3) == ["x", "y", "", ""]


def test_the_keyboard_sorts_and_unfolds(made: Path, open_page: OpenPage) -> None:
    tab = open_page(made)
    tab.page.locator("thead .sort").nth(2).focus()
    tab.page.keyboard.press("Enter")
    assert column(tab, 2) == ["1,000", "20", "3", ""]
    tab.page.locator("button.fold").focus()
    tab.page.keyboard.press("Space")
    assert tab.page.locator("tr.folded").count() == 0


def test_a_long_table_is_folded_until_it_is_opened(made: Path, open_page: OpenPage) -> None:
    tab = open_page(made)
    rows, button = tab.page.locator("tbody tr:visible"), tab.page.locator("button.fold")
    assert rows.count() == 15
    assert (button.inner_text(), button.get_attribute("aria-expanded")) == ("show all 34 rows", "false")
    tab.page.locator("thead .sort").nth(2).click()
    assert column(tab, 2, group=1) == [str(i) for i in range(29, 18, -1)]
    button.click()
    assert rows.count() == 34
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert rows.count() == 15


@pytest.mark.parametrize("width", WIDTHS)
def test_the_contents_stay_in_view_and_tell_where_the_reader_is(index: Path, open_page: OpenPage, width: int) -> None:
    tab = open_page(index, width=width, reduced_motion="reduce")
    contents = tab.page.locator(".contents")
    assert contents.locator("[aria-current]").inner_text() == "Result"
    contents.get_by_role("link", name="Cost").click()
    tab.page.locator('.contents a[href="#cost"][aria-current]').wait_for()
    box = contents.bounding_box()
    assert box
    assert box["y"] == 0
    heading = tab.page.locator("#cost h2").bounding_box()
    assert heading
    assert 0 <= heading["y"] < 450
    assert width > 1000 or heading["y"] > box["height"]


def test_without_scripts_everything_is_shown(index: Path, open_page: OpenPage) -> None:
    tab = open_page(index, java_script_enabled=False)
    rows = tab.page.locator("tbody tr")
    assert rows.count() == tab.page.locator("tbody tr:visible").count() > 60
    assert tab.page.locator("button").count() == 0
    assert tab.page.locator(".contents a").count() > 10


def test_in_the_dark_the_page_is_dark_and_figures_are_on_light_cards(index: Path, open_page: OpenPage) -> None:
    light, dark = (open_page(index, color_scheme=scheme) for scheme in SCHEMES)
    assert luminance(light, "body", "background-color") > 0.9
    assert luminance(light, "body", "color") < 0.2
    assert luminance(dark, "body", "background-color") < 0.1
    assert luminance(dark, "body", "color") > 0.8
    assert luminance(dark, "figure img", "background-color") > 0.9
    assert luminance(dark, "td", "color") > 0.8


def luminance(tab: Tab, selector: str, name: str) -> float:
    """The mean of the computed colour's red, green and blue, from 0 to 1."""
    color = tab.page.evaluate(
        "([selector, name]) => getComputedStyle(document.querySelector(selector)).getPropertyValue(name)",
        [selector, name],
    )
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3 / 255


def test_printed_it_is_whole_and_light(made: Path, index: Path, open_page: OpenPage) -> None:
    tab = open_page(made, color_scheme="dark")
    tab.page.emulate_media(media="print", color_scheme="dark")
    assert tab.page.locator("tbody tr:visible").count() == 34
    assert not tab.page.locator(".contents").is_visible()
    assert not tab.page.locator("button.fold").is_visible()
    assert luminance(tab, "body", "background-color") == 1.0
    assert luminance(tab, "td", "color") < 0.2
    report = open_page(index, width=760)
    report.page.emulate_media(media="print")
    assert overflow(report) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_readable_for_everybody_and_does_not_scroll_sideways(
    index: Path, open_page: OpenPage, width: int, scheme: str
) -> None:
    tab = open_page(index, width=width, color_scheme=scheme)
    assert overflow(tab) == 0
    assert serious_issues(tab) == []


@pytest.fixture(scope="module")
def hostile(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page on which every text is hostile, and the report of a run whose questions, answers and faults are."""
    out = tmp_path_factory.mktemp("hostile")
    results = tuple(
        TaskResult(text, text, "1 of 2", 3, Number(70.0, unit="%"), Number(60.0, unit="%"), Number(10.0, 1.0, 19.0))
        for text in HOSTILE
    )
    table = Table(HOSTILE[0], HOSTILE, (tuple(tuple(HOSTILE) for _ in range(20)),), HOSTILE)
    sections = [
        Section(f"s{i}", text, text, {f"table_{i}": table}, links=[(text, "javascript:window.ran=7")])
        for i, text in enumerate(HOSTILE)
    ]
    opening = Opening(" ".join(HOSTILE), results, HOSTILE)
    page = write_report(out / "all", HOSTILE[2], sections, HOSTILE, opening=opening)
    return page, report_run(replace(run, faults=tuple(Fault(1, text) for text in HOSTILE)), out / "run")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_runs_or_breaks_the_page(hostile: tuple[Path, Path], open_page: OpenPage, width: int) -> None:
    for page in hostile:
        tab = open_page(page, width=width)
        assert tab.page.locator(".faults li").count() == len(HOSTILE)
        assert tab.page.eval_on_selector_all("a", "links => links.every((link) => link.protocol === 'file:')")
        assert tab.page.locator("main script, main img:not([src^='figures/'])").count() == 0
        tab.page.locator("thead .sort").first.click()
        assert tab.page.evaluate("window.ran") is None
        assert overflow(tab) == 0


def test_the_policy_refuses_what_is_not_the_pages_own(index: Path, open_page: OpenPage) -> None:
    tab = open_page(index)
    tab.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = 1";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<p onclick='window.ran = 2' id='mine'>here</p>");
            document.getElementById("mine").click();
            fetch("https://example.org/").catch(() => {});
        }"""
    )
    assert tab.page.evaluate("window.ran") is None
    assert len(tab.errors) >= 3
    assert all("Content Security Policy" in error for error in tab.errors)
    tab.errors.clear()


def changed(folder: Path, made: Sequence[Answered], change: Any) -> Run:
    """The run of ``made``, its results file being changed."""
    path = write_run(folder, made) / "1_results.json"
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))
    return read_with(folder, made)


def of_another_model(results: dict[str, Any]) -> None:
    results["config"] = {"resolved_cli_args": {}, "model": "llava_hf"}


def of_macro_alone(results: dict[str, Any]) -> None:
    results["config"]["resolved_cli_args"]["dualfocus"]["settings"]["strategy"] = "macro"


@pytest.mark.parametrize(("change", "said"), [(of_another_model, "answered"), (of_macro_alone, "macro pathway alone")])
def test_a_run_with_one_answer_per_question_opens_with_its_scores(
    tmp_path: Path, open_page: OpenPage, change: Any, said: str
) -> None:
    tab = open_page(report_run(changed(tmp_path / "run", answers(), change), tmp_path / "out"))
    assert said in tab.page.locator(".lead").inner_text()
    line = tab.page.locator(".results li").first
    assert text_of(line, ".selected") == row_of(tab, "Strategies", SCENES)["selected"].partition(" ")[0]
    assert line.locator(".difference").count() == 0
    assert serious_issues(tab) == []


def test_a_run_of_one_question_and_several_runs_have_pages(tmp_path: Path, open_page: OpenPage) -> None:
    one = run_of(answers()[1:2])
    tab = open_page(report_runs({"one": one, "all": run_of(answers())}, ["a: is damaged"], tmp_path / "out"))
    assert tab.page.locator(".results").count() == 0
    assert tab.page.locator(".faults li").inner_text() == "a: is damaged"
    assert overflow(tab) == 0
    tab.page.get_by_role("link", name="Report of one").click()
    assert "answered 1 question about 1 image" in tab.page.locator(".lead").inner_text()
    assert text_of(tab.page.locator(".results li").first, ".count") == "1"
