"""The inspector in a real Chromium, opened from the file system."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from dualfocus_eval.analysis.cards import Card, cards_of
from dualfocus_eval.analysis.outcomes import OUTCOME_WORDS, Outcome
from dualfocus_eval.analysis.pairing import pair_runs
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.cli.ask import _parser
from dualfocus_eval.report.inspector import Inspector
from dualfocus_eval.report.inspector_data import Entry, Facet, Index
from dualfocus_eval.report.inspector_pair import write_pair
from dualfocus_eval.tiny.effect import SCENES
from tests.integration.browser import OpenPage, Tab, overflow, serious_issues
from tests.integration.inspected import HOSTILE, hostile, pair_at, report_at, run_at, some

COUNT = 57


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    return report_at(tmp_path_factory.mktemp("made"), some(COUNT))


@pytest.fixture(scope="module")
def cards(made: tuple[Run, Path]) -> list[Card]:
    return list(cards_of(made[0]))


@pytest.fixture
def tab(made: tuple[Run, Path], open_page: OpenPage) -> Tab:
    return ready(open_page(made[1]))


def ready(tab: Tab) -> Tab:
    tab.page.wait_for_selector(".card")
    return tab


def expect_keys(tab: Tab, keys: Sequence[str], total: int = COUNT) -> None:
    """The page says how many there are, and shows the first twenty in order."""
    expect(tab.page.locator("#status")).to_have_text(f"{len(keys)} of {total} questions")
    expect(tab.page.locator(".card h2")).to_have_text(list(keys[:20]))


def choose(tab: Tab, label: str, words: str) -> None:
    select = tab.page.get_by_label(label, exact=True)
    options = select.locator("option").all_text_contents()
    (found,) = [text for text in options if text.rpartition(" (")[0] == words or text == words]
    select.select_option(label=found)


def keys_where(cards: Sequence[Card], holds: Callable[[Card], bool]) -> list[str]:
    return [card.key for card in cards if holds(card)]


def test_the_page_opens_with_every_question_and_its_picture(tab: Tab, cards: list[Card]) -> None:
    expect_keys(tab, [card.key for card in cards])
    first = tab.page.locator(".card").first
    image = first.locator("img").first
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") == 400
    assert "What color is thing number 0?" in first.inner_text()


def test_box_and_sub_region_lie_where_the_trace_says(tab: Tab, cards: list[Card]) -> None:
    card = cards[0]
    assert card.box
    assert card.crop
    place = tab.page.locator(".card").first

    def part(selector: str) -> list[float]:
        frame, inner = (place.locator(one).first.bounding_box() for one in (".frame", selector))
        assert frame
        assert inner
        left, top = (inner[axis] - frame[axis] for axis in ("x", "y"))  # type: ignore[literal-required]
        width, height = frame["width"], frame["height"]
        return [left / width, top / height, (left + inner["width"]) / width, (top + inner["height"]) / height]

    assert part(".outline.box") == pytest.approx(card.box.corners, abs=0.01)
    left, top, right, bottom = card.crop.left / 400, card.crop.top / 200, card.crop.right / 400, card.crop.bottom / 200
    assert part(".outline.crop") == pytest.approx([left, top, right, bottom], abs=0.01)
    cut = place.locator(".frame.cut").bounding_box()
    assert cut
    assert cut["width"] / cut["height"] == pytest.approx(card.crop.size[0] / card.crop.size[1], abs=0.02)
    shown = place.locator(".frame.cut img").bounding_box()
    assert shown
    assert (cut["x"] - shown["x"]) / shown["width"] == pytest.approx(card.crop.left / 400, abs=0.01)
    assert shown["width"] / cut["width"] == pytest.approx(400 / card.crop.size[0], rel=0.02)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_outcome_filter(tab: Tab, cards: list[Card], outcome: Outcome) -> None:
    keys = keys_where(cards, lambda card: card.outcome is outcome)
    if not keys:
        assert outcome is Outcome.UNSCORED
        return
    choose(tab, "Outcome", OUTCOME_WORDS[outcome])
    expect_keys(tab, keys)
    for chips in tab.page.locator(".card .chips").all():
        assert OUTCOME_WORDS[outcome] in (chips.text_content() or "")


@pytest.mark.parametrize(
    ("label", "words", "holds"),
    [
        ("Category", "count", lambda card: "count" in card.categories),
        ("Category", "global", lambda card: "global" in card.categories),
        ("Fallback", "unparsable", lambda card: card.fallback == "unparsable"),
        ("Decided by", "perplexity", lambda card: card.decision == "perplexity"),
        ("Decided by", "only one answer", lambda card: card.decision == "only one answer"),
    ],
)
def test_the_other_lists(
    tab: Tab, cards: list[Card], label: str, words: str, holds: Callable[[Card], bool]
) -> None:  # fmt: skip
    choose(tab, label, words)
    expect_keys(tab, keys_where(cards, holds))


def test_filters_go_together_and_each_value_says_how_many_it_would_leave(tab: Tab, cards: list[Card]) -> None:
    choose(tab, "Category", "count")
    choose(tab, "Outcome", OUTCOME_WORDS[Outcome.GAINED])
    expect_keys(tab, keys_where(cards, lambda card: "count" in card.categories and card.outcome is Outcome.GAINED))
    for outcome in Outcome:
        count = len(keys_where(cards, lambda card, one=outcome: "count" in card.categories and card.outcome is one))
        options = tab.page.get_by_label("Outcome", exact=True).locator("option").all_text_contents()
        if any(card.outcome is outcome for card in cards):
            assert f"{OUTCOME_WORDS[outcome]} ({count})" in options
    tab.page.get_by_role("button", name="Clear filters").click()
    expect_keys(tab, [card.key for card in cards])


def test_ranges(tab: Tab, cards: list[Card]) -> None:
    tab.page.get_by_label("Confidence gap, nats, from").fill("0.1")
    expect_keys(tab, keys_where(cards, lambda card: round(card.gap, 6) >= 0.1))
    tab.page.get_by_label("Box area, % of the image, to").fill("5")
    expect_keys(
        tab, keys_where(cards, lambda card: round(card.gap, 6) >= 0.1 and bool(card.box) and card.box.area <= 0.05)
    )


def test_the_search_looks_in_questions_and_answers(tab: Tab, cards: list[Card]) -> None:
    search = tab.page.get_by_label("Search")
    search.fill("NUMBER 12")
    expect_keys(tab, [f"{SCENES}/12"])
    search.fill("teal")
    texts = [[card.target, card.macro and card.macro.text, card.micro and card.micro.text] for card in cards]
    expect_keys(tab, [card.key for card, text in zip(cards, texts, strict=True) if "teal" in text])
    search.fill("nothing of the sort")
    expect(tab.page.locator("#status")).to_have_text(f"0 of {COUNT} questions")
    assert "No question passes all filters." in tab.page.locator("#cards").inner_text()


@pytest.mark.parametrize(
    ("order", "value", "sign"),
    [
        ("Confidence gap, nats, largest first", lambda card: card.gap, -1),
        ("Confidence gap, nats, smallest first", lambda card: card.gap, 1),
        ("Box area, % of the image, largest first", lambda card: card.box.area if card.box else float("nan"), -1),
        ("Box area, % of the image, smallest first", lambda card: card.box.area if card.box else float("nan"), 1),
    ],
)
def test_orders(tab: Tab, cards: list[Card], order: str, value: Callable[[Card], float], sign: int) -> None:
    choose(tab, "Order", order)
    ranked = sorted(
        enumerate(cards), key=lambda one: (value(one[1]) != value(one[1]), sign * float(f"{value(one[1]):.6g}"), one[0])
    )
    known = [card.key for _, card in ranked if value(card) == value(card)]
    unknown = [card.key for _, card in ranked if value(card) != value(card)]
    expect_keys(tab, [*known, *sorted(unknown, key=lambda key: int(key.rpartition("/")[2]))])


def test_a_random_order_is_that_of_its_seed(tab: Tab) -> None:
    def shown() -> list[str]:
        return tab.page.locator(".card h2").all_text_contents()

    first = tab.page.locator(".card h2").first
    choose(tab, "Order", "random")
    expect(first).not_to_have_text(f"{SCENES}/0")
    zero = shown()
    tab.page.get_by_label("Seed").fill("7")
    expect(first).not_to_have_text(zero[0])
    assert shown() != zero
    tab.page.get_by_label("Seed").fill("0")
    expect(tab.page.locator(".card h2")).to_have_text(zero)


def test_pages(tab: Tab, cards: list[Card]) -> None:
    keys = [card.key for card in cards]
    expect(tab.page.locator("#page")).to_have_text("page 1 of 3")
    expect(tab.page.locator("#previous")).to_be_disabled()
    tab.page.get_by_role("button", name="Next page").click()
    expect(tab.page.locator(".card h2")).to_have_text(keys[20:40])
    tab.page.keyboard.press("n")
    expect(tab.page.locator(".card h2")).to_have_text(keys[40:])
    expect(tab.page.locator("#next")).to_be_disabled()
    tab.page.keyboard.press("p")
    expect(tab.page.locator("#page")).to_have_text("page 2 of 3")


def focused(tab: Tab) -> Locator:
    return tab.page.locator(".card:focus h2")


@pytest.mark.parametrize(("forward", "back"), [("j", "k"), ("ArrowRight", "ArrowLeft")])
def test_keys_go_from_card_to_card_and_across_pages(tab: Tab, forward: str, back: str) -> None:
    tab.page.keyboard.press(forward)
    expect(focused(tab)).to_have_text(f"{SCENES}/0")
    for number in range(1, 21):
        tab.page.keyboard.press(forward)
        expect(focused(tab)).to_have_text(f"{SCENES}/{number}")
    expect(tab.page.locator("#page")).to_have_text("page 2 of 3")
    tab.page.keyboard.press(back)
    expect(focused(tab)).to_have_text(f"{SCENES}/19")
    assert tab.page.url.endswith(f"#{SCENES}/19")


def test_arrow_keys_scroll_answers_that_are_wider_than_the_page(made: tuple[Run, Path], open_page: OpenPage) -> None:
    tab = ready(open_page(made[1], width=300))
    frame = tab.page.locator(".card .wide").first
    frame.focus()
    tab.page.keyboard.press("ArrowRight")
    expect(frame).to_be_focused()
    tab.page.wait_for_function("frame => frame.scrollLeft > 0", arg=frame.element_handle())
    tab.page.keyboard.press("j")
    expect(focused(tab)).to_have_text(f"{SCENES}/1")


def test_the_help_lists_the_keys_and_typing_is_not_taken_for_them(tab: Tab) -> None:
    tab.page.keyboard.press("?")
    help_box = tab.page.get_by_role("dialog", name="Keys")
    expect(help_box).to_be_visible()
    assert "next card" in help_box.inner_text()
    assert serious_issues(tab) == []
    tab.page.keyboard.press("Escape")
    expect(help_box).to_be_hidden()
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("jk?")
    expect(tab.page.get_by_label("Search")).to_have_value("jk?")
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_label("Search")).not_to_be_focused()


def test_every_card_has_a_link_of_its_own(made: tuple[Run, Path], open_page: OpenPage) -> None:
    tab = ready(open_page(f"{made[1].as_uri()}#{SCENES}/45"))
    expect(focused(tab)).to_have_text(f"{SCENES}/45")
    expect(tab.page.locator("#page")).to_have_text("page 3 of 3")
    place = tab.page.locator(".card:focus").bounding_box()
    assert place
    assert 0 <= place["y"] <= 40
    choose(tab, "Outcome", OUTCOME_WORDS[Outcome.FAILED])
    tab.page.evaluate(f"location.hash = '{SCENES}/3'")  # which the filter leaves out
    expect(focused(tab)).to_have_text(f"{SCENES}/3")
    expect(tab.page.locator("#status")).to_have_text(f"{COUNT} of {COUNT} questions")
    place = tab.page.locator(".card:focus").bounding_box()
    assert place
    assert 0 <= place["y"] <= 40
    tab.page.locator(".card h2 a").nth(5).click()
    assert tab.page.url.endswith(f"#{SCENES}/5")


@pytest.mark.parametrize("link", ["no_such_task/0", f"{SCENES}/100000", "%E0%A4%A", "<b>", "__proto__/1"])
def test_a_link_to_nothing_says_so_and_shows_the_rest(made: tuple[Run, Path], open_page: OpenPage, link: str) -> None:
    tab = ready(open_page(f"{made[1].as_uri()}#{link}"))
    expect(tab.page.locator("#status")).to_contain_text("There is no question")
    expect(tab.page.locator(".card")).to_have_count(20)


def pasted(tab: Tab) -> str:
    field = tab.page.get_by_label("Search")
    field.fill("")
    field.press("Control+V")
    return field.input_value()


def test_a_card_is_copied_as_json(tab: Tab, cards: list[Card]) -> None:
    tab.page.get_by_role("button", name="Copy as JSON").nth(3).click()
    expect(tab.page.get_by_role("button", name="Copied")).to_be_visible()
    found = json.loads(pasted(tab))
    card = cards[3]
    assert (found["key"], found["target"]) == (card.key, card.target)
    assert card.macro
    assert found["sides"][0]["macro"]["text"] == card.macro.text
    assert found["sides"][0]["outcome"] == card.outcome


def test_the_copied_command_is_one_that_ask_takes(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Copy the command that asks this again").nth(2).click()
    expect(tab.page.get_by_role("button", name="Copied")).to_be_visible()
    program, command, *arguments = shlex.split(pasted(tab))
    chosen = _parser().parse_args(arguments)
    assert (program, command, chosen.doc) == ("dualfocus", "ask", f"{SCENES}/2")
    assert "pretrained=some/checkpoint" in chosen.model_args


def test_without_its_task_a_question_is_asked_about_the_kept_picture(tab: Tab, made: tuple[Run, Path]) -> None:
    command = """([key, options]) => {
      const image = { digest: key, kept: true };
      const run = { ask: { model_args: "", tasks: [] } };
      const card = { task: "gone", key: "gone/1", image, question: "What's <it>?", options };
      return asking.command(card, run, { pictures: "images" });
    }"""
    digest = next((made[1].parent / "images").iterdir()).stem
    program, name, *arguments = shlex.split(tab.page.evaluate(command, [digest, ["a b", "c"]]))
    chosen = _parser().parse_args(arguments)
    assert (program, name, chosen.question, chosen.options) == ("dualfocus", "ask", "What's <it>?", "a b,c")
    assert Path(chosen.images[0]).is_file()
    assert tab.page.evaluate(command, [digest, ["a, b", "c"]]) is None


def test_the_keyboard_reaches_everything_and_nothing_is_hard_to_read(
    made: tuple[Run, Path], open_page: OpenPage
) -> None:  # fmt: skip
    for scheme, width in (("light", 1400), ("dark", 420)):
        tab = ready(open_page(made[1], width=width, color_scheme=scheme))
        assert serious_issues(tab) == []
        assert overflow(tab) == 0


def test_dark_mode(made: tuple[Run, Path], open_page: OpenPage) -> None:
    def lightness(scheme: str) -> int:
        tab = ready(open_page(made[1], color_scheme=scheme))
        color: str = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in color.removeprefix("rgb(").rstrip(")").split(","))

    assert lightness("light") > 700
    assert lightness("dark") < 120


@pytest.mark.parametrize("width", [1400, 420])
def test_hostile_texts_are_texts(tmp_path: Path, open_page: OpenPage, width: int) -> None:
    _, page = report_at(tmp_path, hostile())
    tab = ready(open_page(page, width=width))
    assert overflow(tab) == 0
    assert tab.page.title().startswith("Every answer")
    assert tab.page.locator("#cards script, #cards h1, #cards a[href^='javascript']").count() == 0
    shown = tab.page.locator("#cards").text_content() or ""
    for text in HOSTILE[:4]:
        assert text in shown
    assert "Show all 10,000 characters" in shown
    assert "\\u202egnirts" in shown
    assert "undefined" not in shown
    empty = tab.page.locator(".card").filter(has_text=f"{SCENES}/93")
    expect(empty.locator("td.text")).to_have_text(["(nothing)", "(nothing)"])
    assert "\\x03\\x1b[31m" in shown
    assert "The sub-region lies outside of the image" in shown
    assert tab.page.locator(".frame.missing").count() >= 2
    assert "2 of 3 pictures are missing" in tab.page.locator("#notes").inner_text()
    tab.page.get_by_role("button", name="Show all 10,000 characters").first.click()
    assert overflow(tab) == 0
    assert serious_issues(tab) == []
    for text in HOSTILE:
        tab.page.get_by_label("Search").fill(text.split("\n")[0][:500])
        expect(tab.page.locator("#status")).not_to_contain_text("0 of")
    for number, text in enumerate(HOSTILE):
        assert tab.page.evaluate("text => asking.quoted(text)", text) == quoted_by_python(text), number


def test_hostile_names_of_tasks_and_categories_are_texts_with_links_that_work(
    tmp_path: Path, open_page: OpenPage
) -> None:
    names = [*HOSTILE, "a/b%20c#d?e", ".."]
    index = Index(
        title="<b>title</b>", about=["<i>about</i>"], notes=["<script>note</script>"], pictures=None,
        facets=[Facet("task", "Task"), Facet("category", "Category")], ranges=[],
        runs=[{"name": "", "ask": {"model_args": "", "tasks": names}, "compared": None, "reading": ""}],
    )  # fmt: skip
    entries = [
        Entry(
            name, 7, [name, (name, "plain")], [], [name],
            {"task": name, "key": f"{name}/7", "question": name, "categories": [name], "sides": [{"answer": name}]},
        )
        for name in names
    ]  # fmt: skip
    page = Inspector(index, len(entries), lambda: entries).write(tmp_path)
    tab = ready(open_page(page, width=420))
    assert tab.page.title() == "<b>title</b>"
    assert overflow(tab) == 0
    assert tab.page.locator("#cards script, #cards b, #cards a[href^='javascript']").count() == 0
    tab.page.get_by_text("Filters", exact=True).click()
    for place in range(len(names)):
        tab.page.locator(".card h2 a").nth(place).click()
        expect(tab.page.locator(".card:focus")).to_have_id(f"card-{place}")
        tab.page.get_by_label("Task", exact=True).select_option(index=place + 1)
        expect(tab.page.locator("#status")).to_have_text(f"1 of {len(names)} questions")
        tab.page.get_by_label("Task", exact=True).select_option(index=0)
        expect(tab.page.locator(".card")).to_have_count(len(names))


def quoted_by_python(text: str) -> str:
    """What the page is to make of a text for the shell; with control characters in codes that no terminal obeys."""
    plain = shlex.quote(text).replace("'\"'\"'", "'\\''")
    if any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in text):
        plain = "$'{}'".format("".join(_code(sign) for sign in text))
    return plain


def _code(sign: str) -> str:
    if sign in "\\'":
        return f"\\{sign}"
    return f"\\u{ord(sign):04x}" if ord(sign) < 32 or 127 <= ord(sign) < 160 else sign


def test_a_run_without_pictures_says_so_once(tmp_path: Path, open_page: OpenPage) -> None:
    _, page = report_at(tmp_path, some(3), kept=False)
    tab = ready(open_page(page))
    assert "No pictures: the run kept none" in tab.page.locator("#notes").inner_text()
    assert tab.page.locator("img").count() == 0
    assert tab.page.locator(".outline.box").count() == 3
    assert not (page.parent / "images").exists()


def test_a_run_of_one_question(tmp_path: Path, open_page: OpenPage) -> None:
    _, page = report_at(tmp_path, some(1))
    tab = ready(open_page(page))
    expect_keys(tab, [f"{SCENES}/0"], total=1)


def test_a_moved_report_shows_its_pictures(tmp_path: Path, open_page: OpenPage) -> None:
    _, page = report_at(tmp_path / "before", some(8))
    (tmp_path / "else where #1").mkdir()
    moved = Path(shutil.move(page.parent, tmp_path / "else where #1" / "report"))
    shutil.rmtree(tmp_path / "before")
    tab = ready(open_page(moved / "inspect.html"))
    images = tab.page.locator("img")
    assert images.count() == 15
    for number in range(images.count()):
        images.nth(number).scroll_into_view_if_needed()
        expect(images.nth(number)).to_have_js_property("naturalWidth", 400)


def test_a_lost_data_file_is_named_and_the_rest_works(tmp_path: Path, made: Any, open_page: OpenPage) -> None:
    copy = Path(shutil.copytree(made[1].parent, tmp_path / "report"))
    (copy / "inspect" / "texts-00000.js").unlink()
    tab = ready(open_page(copy / "inspect.html"))
    tab.page.get_by_label("Search").fill("red")
    expect(tab.page.locator("#status")).to_contain_text("The search does not work: inspect/texts-00000.js")
    choose(tab, "Category", "count")
    expect(tab.page.locator("#status")).to_have_text(f"{COUNT // 3} of {COUNT} questions")
    assert [error for error in tab.errors if "ERR_FILE_NOT_FOUND" not in error] == []
    tab.errors.clear()


def test_a_picture_that_is_lost_after_the_report_leaves_an_empty_frame(
    tmp_path: Path, made: Any, open_page: OpenPage
) -> None:
    copy = Path(shutil.copytree(made[1].parent, tmp_path / "report"))
    shutil.rmtree(copy / "images")
    tab = ready(open_page(copy / "inspect.html"))
    expect(tab.page.locator(".card").first.locator(".frame.missing")).to_have_count(2)
    expect(tab.page.locator(".card").first.locator("img")).to_have_count(0)
    assert [error for error in tab.errors if "ERR_FILE_NOT_FOUND" not in error] == []
    tab.errors.clear()


def test_the_page_leads_back_to_its_report(tab: Tab) -> None:
    tab.page.get_by_role("link", name="The report").click()
    expect(tab.page.locator("#result")).to_be_visible()


def test_two_runs_open_with_the_questions_whose_score_differs(tmp_path: Path, open_page: OpenPage) -> None:
    first, second, page = pair_at(tmp_path, COUNT)
    both = list(zip(cards_of(first), cards_of(second), strict=True))
    both = [(one, two) for one, two in both if not one.error]  # failed questions are not compared
    tab = ready(open_page(page))
    flips = [one.key for one, two in both if one.score != two.score]
    assert flips
    expect_keys(tab, flips, total=len(both))
    card = tab.page.locator(".card").first
    expect(card.locator(".side h3")).to_have_text(["A", "B"])
    expect(card.locator(".outline.box")).to_have_count(2)
    expect(card.get_by_role("button", name="Copy the command that asks B again")).to_have_count(1)
    assert "From A to B: selection own_context -> micro_context" in tab.page.locator("#about").inner_text()
    choose(tab, "From A to B", "B scores higher")
    expect_keys(tab, [one.key for one, two in both if two.score > one.score], total=len(both))
    choose(tab, "From A to B", "any")
    expect_keys(tab, [one.key for one, _ in both], total=len(both))
    choose(tab, "Outcome in B", OUTCOME_WORDS[Outcome.LOST])
    expect_keys(tab, [one.key for one, two in both if two.outcome is Outcome.LOST], total=len(both))
    choose(tab, "Order", "Confidence gap in B, nats, largest first")
    assert serious_issues(tab) == []
    assert overflow(tab) == 0


def test_two_runs_that_agree_open_without_a_card(tmp_path: Path, open_page: OpenPage) -> None:
    run = run_at(tmp_path / "run", some(5))
    tab = open_page(write_pair(run, run, pair_runs(run, run).rows, "A and A", tmp_path / "page"))
    expect(tab.page.locator("#status")).to_have_text("0 of 5 questions")
    tab.page.get_by_role("button", name="Clear filters").click()
    expect(tab.page.locator("#status")).to_have_text("5 of 5 questions")


def test_without_javascript_the_page_says_what_to_do(made: tuple[Run, Path], open_page: OpenPage) -> None:
    tab = open_page(made[1], java_script_enabled=False)
    assert "This page needs JavaScript" in tab.page.locator("noscript").first.inner_text()
