"""``dualfocus data gqa-mcq``: options that a multiple-choice question may have, by rule and by a model."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualfocus_eval.cli.main import main
from dualfocus_eval.datasets.gqa_choices.build import build_choices
from dualfocus_eval.datasets.gqa_choices.sameness import may_both_be_right
from dualfocus_eval.datasets.gqa_mcq import read_record

COLORS = ("red", "blue", "green", "white", "black", "gray", "dark blue", "pink")
OBJECTS = ("dog", "dogs", "cat", "teddy bear", "bear", "couch", "sofa", "man", "person", "fork", "knives", "tv")


def entry(
    question: str, answer: str, structural: str = "query", group: str = "color", image: str = "n1", **more: Any
) -> dict[str, Any]:
    return {
        "imageId": image,
        "question": question,
        "answer": answer,
        "types": {"structural": structural, "semantic": "attr", "detailed": group},
        "groups": {"global": group, "local": None},
        "semantic": [],
        "equivalent": [],
        **more,
    }


def colors(count: int = 8) -> dict[str, Any]:
    return {f"c{n}": entry(f"What color is thing {n}?", color, image=f"n{n}") for n, color in enumerate(COLORS[:count])}


def options_of(record: dict[str, Any]) -> list[str]:
    options: list[str] = read_record(record, {})["options"]
    return options


def only(questions: dict[str, Any], question_id: str, choices: int = 4) -> list[str]:
    built = build_choices(questions, 0, choices)
    return next(options_of(record) for record in built.records if record["question_id"] == question_id)


@st.composite
def question_sets(draw: st.DrawFn) -> dict[str, Any]:
    """GQA-like sets of all types; answers collide, and so do images and wordings."""
    questions = {}
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["color", "object", "verify", "choose", "compare"]))
        image = f"n{draw(st.integers(0, 3))}"
        if kind in ("color", "object"):
            answer = draw(st.sampled_from(COLORS if kind == "color" else OBJECTS))
            made = entry(f"What is thing {draw(st.integers(0, 3))}?", answer, "query", kind, image)
            made["types"]["semantic"] = "attr" if kind == "color" else "rel"
        elif kind == "verify":
            made = entry("Is it red?", draw(st.sampled_from(["yes", "no"])), "verify", "verifyColor", image)
        else:
            pair = draw(st.lists(st.sampled_from(COLORS), min_size=2, max_size=2, unique=True))
            made = entry("Which of them?", pair[0], kind, kind, image)
            program = [("choose color", "|".join(pair))] if kind == "choose" else [("select", name) for name in pair]
            made["semantic"] = [{"operation": operation, "argument": argument} for operation, argument in program]
        questions[f"q{number}"] = made
    return questions


@given(question_sets(), st.integers(0, 5), st.integers(2, 6))
@settings(max_examples=200)
def test_the_right_answer_is_among_distinct_options_exactly_once(
    questions: dict[str, Any], seed: int, choices: int
) -> None:
    built = build_choices(questions, seed, choices)
    assert len(built.records) + len(built.left_out) == len(questions)
    for record in built.records:
        asked, row = questions[record["question_id"]], read_record(record, {})
        options = row["options"]
        assert row["answer"] == asked["answer"] == record["answer"]
        assert options.count(row["answer"]) == 1
        assert len({option.casefold() for option in options}) == len(options) >= 2
        assert len(options) <= max(choices, 2)
        if record["provenance"]["rule"] == "group":
            others = [option for option in options if option != row["answer"]]
            assert not any(may_both_be_right(row["answer"], option) for option in others)
            same_question = (asked["imageId"], asked["question"])
            also_right = {
                other["answer"]
                for other in questions.values()
                if (other["imageId"], other["question"]) == same_question
            }
            assert not also_right & set(others)
    again = build_choices(questions, seed, choices)
    assert (again.records, again.left_out) == (built.records, built.left_out)


@given(st.integers(0, 50))
@settings(max_examples=30)
def test_the_right_answers_place_is_balanced_over_the_set(seed: int) -> None:
    questions = {
        f"q{number}": entry(f"What color is thing {number}?", COLORS[number % 4], image=f"n{number}")
        for number in range(42)
    }
    places = Counter(options_of(record).index(record["answer"]) for record in build_choices(questions, seed, 4).records)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) - min(places.values()) <= 1


def test_another_seed_gives_another_set() -> None:
    assert build_choices(colors(), 0, 4).records != build_choices(colors(), 1, 4).records


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("dog", "dogs"), ("knife", "knives"), ("man", "men"), ("couch", "sofas"), ("T-shirt", "t shirt"),
        ("tv", "television"),
        ("bear", "teddy bear"), ("blue", "dark blue"), ("the dog", "dog"), ("animal", "dogs"), ("person", "woman"),
        ("grey", "gray"), ("cherries", "cherry"), ("glasses", "glass"), ("leather sofa", "couch"), ("people", "man"),
    ],
)  # fmt: skip
def test_answers_that_may_both_be_right(first: str, second: str) -> None:
    assert may_both_be_right(first, second)
    assert may_both_be_right(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("dog", "cat"), ("man", "woman"), ("left", "right"), ("dining table", "coffee table"), ("boy", "girl"),
        ("red", "dark blue"), ("glass", "grass"), ("water bottle", "water"), ("bus", "bus stop"), ("yes", "no"),
    ],
)  # fmt: skip
def test_answers_of_which_one_excludes_the_other(first: str, second: str) -> None:
    assert not may_both_be_right(first, second)
    assert not may_both_be_right(second, first)


def test_yes_or_no_has_these_two_options() -> None:
    questions = colors() | {"v": entry("Is it red?", "no", "verify", "verifyColor")}
    assert sorted(only(questions, "v")) == ["no", "yes"]


@pytest.mark.parametrize(
    ("program", "answer", "options"),
    [
        ([("select", "bed (12)"), ("choose color", "red|blue")], "blue", {"red", "blue"}),
        ([("choose rel", "cup,to the left of|to the right of,s (78)")], "left", {"left", "right"}),
        ([("select", "scene"), ("choose location", "indoors|outdoors")], "indoors", {"indoors", "outdoors"}),
    ],
)
def test_a_question_that_names_its_alternatives_has_just_these(
    program: list[tuple[str, str]], answer: str, options: set[str]
) -> None:
    steps = [{"operation": operation, "argument": argument} for operation, argument in program]
    assert set(only(colors() | {"q": entry("Is it?", answer, "choose", semantic=steps)}, "q")) == options


def test_what_is_compared_are_the_alternatives_of_a_comparison() -> None:
    steps = [{"operation": "select", "argument": name} for name in ("man (1)", "girl (2)")]
    older = entry("Who is older?", "man", "compare", semantic=[*steps, {"operation": "choose older", "argument": "-"}])
    common = entry("What have they in common?", "red", "compare", semantic=steps, image="n77")
    questions = colors() | {"older": older, "common": common}
    assert set(only(questions, "older")) == {"man", "girl"}
    assert len(only(questions, "common")) == 4


def test_other_right_answers_are_no_distractors() -> None:
    """To the same question about the same image, to one that GQA calls equivalent, and things seen in the image."""
    questions = colors(4)
    questions["same"] = entry("What color is  thing 0", "blue", image="n0")
    questions["q"] = entry("What color is the other?", "red", image="n8", equivalent=["e"])
    questions["e"] = entry("Which color has the other?", "green", image="n8")
    for seed in range(20):
        records = {record["question_id"]: options_of(record) for record in build_choices(questions, seed, 4).records}
        assert set(records["c0"]) == {"red", "green", "white"}
        assert "green" not in records["q"]
    seen = {
        f"o{n}": entry("What is there?", name, group="object", image=image)
        for n, (name, image) in enumerate([("dog", "n1"), ("cat", "n1"), ("fork", "n2")])
    }
    seen["o1"]["question"] = "What is to the left?"
    for made in seen.values():
        made["types"]["semantic"] = "rel"
    assert set(only(seen, "o0")) == {"dog", "fork"}


def questions_file(folder: Path, questions: dict[str, Any]) -> Path:
    path = folder / "testdev_balanced_questions.json"
    path.write_text(json.dumps(questions))
    return path


def run(folder: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    out = folder / "out" / "my_gqa_mcq.jsonl"
    status = main(
        ["data", "gqa-mcq", "--questions", str(folder / "testdev_balanced_questions.json"), "--out", str(out), *more]
    )
    return status, [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def test_too_few_candidates_are_counted_and_rows_without_any_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = colors(3) | {"lonely": entry("What shape is it?", "round", group="shape"), "bad": {"question": "?"}}
    questions_file(tmp_path, questions)
    status, records = run(tmp_path)
    output = capsys.readouterr()
    assert status == 1
    assert [len(options_of(record)) for record in records] == [3, 3, 3]
    assert "3 questions, 3 of them with fewer than 4 options" in " ".join(output.out.split())
    assert "question lonely: no wrong answer of its kind is known" in output.err
    assert "question bad: lacks imageId, answer, types" in output.err
    assert records[0]["provenance"] == {"rule": "group", "seed": 0}


def test_the_set_goes_through_prepare(tmp_path: Path) -> None:
    from PIL import Image

    questions_file(tmp_path, colors())
    assert run(tmp_path, "--seed", "3")[0] == 0
    for number in range(8):
        Image.new("RGB", (16, 16)).save(tmp_path / "out" / f"n{number}.jpg")
    assert main(["data", "prepare", "gqa-mcq", "--source", str(tmp_path / "out"), "--out", str(tmp_path / "root")]) == 0


@pytest.mark.parametrize("arguments", [("--choices", "1"), ("--choices", "27")])
def test_a_wrong_number_of_choices_is_refused(tmp_path: Path, arguments: tuple[str, str]) -> None:
    questions_file(tmp_path, colors())
    assert run(tmp_path, *arguments) == (2, [])


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_wrong_question_file_is_one_clear_line(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "testdev_balanced_questions.json").write_text(content)
    assert run(tmp_path) == (2, [])
    assert "testdev_balanced_questions.json" in capsys.readouterr().err


# --- a model behind a real server ---

Reply = Callable[[str], tuple[int, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An OpenAI-compatible server that answers with ``reply(prompt)``: a status and the model's text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.requests.append(request)  # type: ignore[attr-defined]
            status, text = self.server.reply(request["messages"][0]["content"])  # type: ignore[attr-defined]
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [choice],
            }
            content = json.dumps(body if status == 200 else {"error": {"message": text}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.requests = []  # type: ignore[attr-defined]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{http.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.0)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.0)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_models_distractors_are_used_and_recorded(tmp_path: Path, server: Any) -> None:
    server.reply = lambda prompt: (200, 'Here you are:\n```json\n["Teal.", "teals", "Maroon", "ochre", "lilac"]\n```')
    questions_file(tmp_path, colors() | {"v": entry("Is it red?", "yes", "verify", "verifyColor")})
    status, records = run(tmp_path, "--model", "some-model", "--seed", "5")
    assert status == 0
    asked = [record for record in records if record["question_id"] != "v"]
    assert all(set(options_of(record)) - {record["answer"]} == {"teal", "maroon", "ochre"} for record in asked)
    assert all(record["provenance"] == {"model": "some-model", "seed": 5} for record in asked)
    assert records[-1]["provenance"] == {"rule": "yes_no", "seed": 5}
    assert len(server.requests) == 8
    prompts = "".join(request["messages"][0]["content"] for request in server.requests)
    assert all(f"{question['question']}\n" in prompts for question in colors().values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no idea",
        "[1, 2, 3]",
        '["red", "reds", "teal"]',
        '["teal", "maroon"]',
        '{"a": 1}',
        '["yes", "no", "x"]',
        "][",
    ],
)
def test_an_unusable_reply_falls_back_to_the_rule(
    tmp_path: Path, server: Any, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda prompt: (200, text if "thing 0?" in prompt else '["teal", "maroon", "ochre"]')
    questions_file(tmp_path, colors())
    status, records = run(tmp_path, "--model", "some-model")
    assert status == 0
    assert set(options_of(records[0])) <= set(COLORS)
    provenance = records[0]["provenance"]
    assert (provenance["rule"], provenance["seed"]) == ("group", 0)
    assert provenance["fallback"].startswith("some-model: the reply has ")
    assert [record["provenance"].get("model") for record in records[1:]] == ["some-model"] * 7
    assert "1 questions by rule" in capsys.readouterr().out


def test_a_server_that_fails_later_costs_only_the_question(tmp_path: Path, server: Any) -> None:
    server.reply = lambda prompt: (500, "broken") if "thing 3?" in prompt else (200, '["teal", "maroon", "ochre"]')
    questions_file(tmp_path, colors())
    status, records = run(tmp_path, "--model", "some-model")
    assert status == 0
    assert ["fallback" in record["provenance"] for record in records] == [number == 3 for number in range(8)]


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_server_that_cannot_be_used_ends_it_at_the_first_question(
    tmp_path: Path, server: Any, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = lambda prompt: (status, "not for you")
    questions_file(tmp_path, colors())
    assert run(tmp_path, "--model", "some-model") == (2, [])
    assert "not for you" in capsys.readouterr().err
    assert len({request["messages"][0]["content"] for request in server.requests}) == 1


def test_a_model_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    questions_file(tmp_path, colors())
    assert run(tmp_path, "--model", "some-model") == (2, [])


def test_equal_replies_give_equal_sets_whatever_their_order(tmp_path: Path, server: Any) -> None:
    def reply(prompt: str) -> tuple[int, str]:
        drawn = random.Random(prompt).sample(["teal", "maroon", "ochre", "lilac", "umber"], 3)
        return 200, json.dumps(drawn)

    server.reply = reply
    questions_file(tmp_path, colors())
    assert run(tmp_path, "--model", "m")[1] == run(tmp_path, "--model", "m")[1]
