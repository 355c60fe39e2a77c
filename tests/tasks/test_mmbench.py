"""MMBench's scoring: against lmms-eval's copy of the official code, against plain loops, and with a real judge."""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from lmms_eval.tasks._task_utils import mcq_extract
from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator
from lmms_eval.utils import load_yaml_config
from loguru import logger

from dualfocus_eval.common.resources import resource_folder

FOLDER = resource_folder("tasks") / "mmbench"
Config = dict[str, Any]
COLORS = ("red", "dark red", "a circle", "the house", "C", "3", "No", "north east", "Été", "e")
CATEGORIES = (
    ("ocr", "finegrained_perception (instance-level)"),
    ("image_scene", "coarse_perception"),
    ("spatial_relationship", "finegrained_perception (cross-instance)"),
    ("future_prediction", "logic_reasoning"),
)


def load(name: str) -> Config:
    config: Config = load_yaml_config(str(FOLDER / f"{name}.yaml"), mode="full")
    return config


@pytest.fixture(scope="module")
def config() -> Config:
    return load("df_mmbench_en_mini")


def row(index: int, answer: str = "A", options: tuple[str, ...] = ("red", "blue"), **more: Any) -> dict[str, Any]:
    texts = dict(zip("ABCD", (*options, None, None), strict=False))
    category, l2_category = CATEGORIES[index % len(CATEGORIES)]
    return {
        "index": index, "question": "What color is it?", "hint": None, "answer": answer, "C": None, "D": None, **texts,
        "category": category, "l2-category": l2_category, "source": "s", "comment": None, "split": "dev", **more,
    }  # fmt: skip


def aggregate(config: Config, records: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for metric in config["metric_list"]:
        values = [record[metric["metric"]] for record in records if metric["metric"] in record]
        if values and callable(metric["aggregation"]):
            found[metric["metric"]] = metric["aggregation"](values)
    return found


def score(config: Config, rows: list[dict[str, Any]], texts: list[str]) -> dict[str, Any]:
    return aggregate(config, [config["process_results"](doc, [text]) for doc, text in zip(rows, texts, strict=True)])


def questions(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Rows of questions with two to four options, under every rotation."""
    rows = []
    for index in range(1, count + 1):
        options = rng.sample(COLORS, rng.randint(2, 4))
        right = options[0]
        rng.shuffle(options)
        for step in range(len(options)):
            turned = (*options[step:], *options[:step])
            rows.append(row(index + step * 1_000_000, "ABCD"[turned.index(right)], turned))
    return rows


def reply(rng: random.Random, doc: dict[str, Any]) -> str:
    """An answer as models give them, right more often than not."""
    letters = [letter for letter in "ABCD" if doc[letter]]
    letter = doc["answer"] if rng.random() < 0.75 else rng.choice("ABCDEF")
    other = rng.choice("ABCDE")
    text = doc.get(letter) or rng.choice(COLORS)
    forms = [
        letter, letter, letter, f"{letter}.", f"({letter})", f"{letter})", f"({letter}).", f"{letter}: {text}",
        f"{letter}. {text}", f":{letter}", f" {letter}\n", letter.lower(), f"{letter},", f"{letter}).", text, text,
        text.upper(), f"It is {text}.", f"The answer is {letter}", f"The answer is {letter}.", f"{letter} {other}",
        f"{letter}. or ({other})", f"A {text} is what I see", f"A. {text} and B. {text}", "", "   ", "?!",
        f"**{letter}**", f"{letter}\uff1a{text}", f"\uff21 {text}", "选择 " + letter, f"I see {text} and {doc['A']}",
        f"Option {letter} because A thing is there", f"{letter}\u00a0{text}", f"\u200b{letter}", "nan", "None",
        f"not {text}; {letter}", "a b c", f"{' '.join(letters)}", f"Answer: {letter}", "🙂", "\u216d", "I cannot tell",
    ]  # fmt: skip
    return rng.choice(forms)


def by_plain_loops(rows: list[dict[str, Any]], texts: list[str]) -> dict[str, float]:
    """The official rule, written as its description reads."""
    table = pd.DataFrame(rows)
    hits, unread = [], 0
    for (_, doc), text in zip(table.iterrows(), texts, strict=True):
        tokens, found = text.split(), None
        alone = {letter for letter in "ABCDE" if letter in tokens}
        if len(alone) == 1 and not (alone == {"A"} and len(tokens) > 3):
            (found,) = alone
        for shape in ("{}.", "{},", "{}:", "{})", "{}).", "({})", "({}).", ":{}", ":{},", ":{}.", ":{})", ":{})."):
            marked = {letter for letter in "ABCDE" if shape.format(letter) in tokens}
            if found is None and len(marked) == 1:
                (found,) = marked
        if found is None:
            inside = [
                letter for letter in "ABCD" if isinstance(doc[letter], str) and doc[letter].lower() in text.lower()
            ]
            found = inside[0] if len(inside) == 1 else None
        unread += found is None
        hits.append(found == doc["answer"])
    table["hit"] = hits
    table["question_index"] = table["index"] % 1_000_000
    grouped = table.groupby("question_index").agg({"hit": "all", "category": "first", "l2-category": "first"})
    scores = {"circular": grouped["hit"].mean(), "vanilla": table[table["index"] < 1_000_000]["hit"].mean()}
    for level in ("category", "l2-category"):
        for name, share in grouped.groupby(level)["hit"].mean().items():
            scores[name.replace(" (", "_").replace("-", "_").replace(")", "")] = share
    return {**scores, "unread": unread, "judge_failed": 0, "incomplete": 0}


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_official_rule(config: Config, seed: int) -> None:
    rng = random.Random(seed)
    rows = questions(rng, 400)
    texts = [reply(rng, doc) for doc in rows]
    assert len(texts) >= 1000
    found = score(config, rows, texts)
    assert found == pytest.approx(by_plain_loops(rows, texts), abs=1e-12)
    assert 0.1 < found["circular"] < found["vanilla"] < 0.9


def test_every_reading_equals_lmms_evals_copy_of_the_official_code(config: Config) -> None:
    official, rng = MMBench_Evaluator(), random.Random(7)
    for doc in questions(rng, 600):
        text = reply(rng, doc).strip()
        choices = {letter: doc[letter] for letter in "ABCD" if doc[letter]}
        expected = official.can_infer_option(text) or official.can_infer_text(text, choices)
        assert config["process_results"](doc, [text])["circular"]["prediction"] == (expected or ""), text


def test_scores_equal_lmms_evals_evaluator_where_no_second_rule_guesses(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its static evaluation reads what is left by a rule of its own, which is taken away here."""
    monkeypatch.setattr(mcq_extract, "extract_mcq_answer", lambda *_, **__: "")
    rng = random.Random(11)
    rows = questions(rng, 300)
    texts = [reply(rng, doc).strip() for doc in rows]
    overall, categories, l2_categories = MMBench_Evaluator().eval_result(
        [doc | {"prediction": text} for doc, text in zip(rows, texts, strict=True)], "static"
    )
    found = score(config, rows, texts)
    assert found["circular"] == pytest.approx(overall, abs=1e-12)
    for name, share in (categories | l2_categories).items():
        slug = name.replace(" (", "_").replace("-", "_").replace(")", "")
        assert found[slug] == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("results", [[], [""], [None], ["\ud800"], ["\x00"], ["=" * 99]])
def test_odd_answers_are_counted_as_unread_and_wrong(config: Config, results: list[Any]) -> None:
    record = config["process_results"](row(1), results)
    assert record["score"] == 0.0
    assert aggregate(config, [record])["unread"] == 1


def test_options_that_a_table_calls_nan_are_none(config: Config) -> None:
    doc = row(1, "B", ("apple", "banana"), C="nan", D="nan", hint="nan")
    assert config["process_results"](doc, ["a banana"])["score"] == 1.0
    assert config["doc_to_text"](doc) == (
        "What color is it?\nA. apple\nB. banana\nAnswer with the option's letter from the given choices directly."
    )


def test_the_prompt_has_hint_question_and_options_on_lines_of_their_own(config: Config) -> None:
    assert config["doc_to_text"](row(1, hint=" Look. ", options=("red", "blue", "green"))) == (
        "Look.\nWhat color is it?\nA. red\nB. blue\nC. green\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_a_question_counts_only_when_right_under_every_rotation(config: Config) -> None:
    rows = [row(4, "A"), row(1_000_004, "B"), row(8, "A"), row(1_000_008, "B")]
    found = score(config, rows, ["A", "B", "A", "A"])
    assert (found["circular"], found["vanilla"], found["incomplete"]) == (0.5, 1.0, 0)


def test_questions_cut_apart_are_counted_and_said(config: Config) -> None:
    rows = [row(4), row(1_000_004, "B"), row(8)]
    rows += [row(12, "A", ("red", "blue", "green")), row(1_000_012, "C", ("blue", "green", "red"))]
    heard: list[str] = []
    sink = logger.add(heard.append, format="{message}")
    try:
        found = score(config, rows, ["A", "B", "A", "A", "C"])
    finally:
        logger.remove(sink)
    assert found["incomplete"] == 2
    assert any("2 of 3 MMBench questions were not asked under every rotation" in line for line in heard)


def test_only_means_over_records_get_a_standard_error(config: Config) -> None:
    record = config["process_results"](row(3), ["A"])
    assert record["vanilla"]["image_id"] == "3"
    assert [name for name, value in record.items() if isinstance(value, dict) and "score" in value] == ["vanilla"]
    assert "vanilla" not in config["process_results"](row(1_000_003), ["A"])


def test_an_unknown_category_counts_in_the_whole_only(config: Config) -> None:
    record = config["process_results"](row(1, category="weather", **{"l2-category": None}), ["A"])
    assert set(record) == {"circular", "vanilla", "incomplete", "unread", "judge_failed", "score"}


def test_every_metric_is_declared_and_every_category_has_one(config: Config) -> None:
    names = [metric["metric"] for metric in config["metric_list"]]
    assert len(names) == len(set(names)) == 2 + 6 + 20 + 4
    for index in range(len(CATEGORIES)):
        assert set(config["process_results"](row(index), ["A"])) <= set(names)


class Judge(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that finds colours in answers; it fails on ``broken``."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, **body})
        prompt = body["messages"][-1]["content"]
        answer = prompt.split("Its answer: ")[1].splitlines()[0]
        texts = {"crimson": "A", "azure": "(B).", "neither": "E", "babble": "it may be anything", "beyond": "D"}
        content = next((text for word, text in texts.items() if word in answer), None)
        reply = {
            "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        } if content else {"error": {"message": "broken"}}  # fmt: skip
        payload = json.dumps(reply).encode()
        self.send_response(200 if content else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A judge that listens; the requests that it got."""
    asked: list[dict[str, Any]] = []
    server = HTTPServer(("127.0.0.1", 0), type("ThisJudge", (Judge,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("DUALFOCUS_JUDGE", "some-judge")
    monkeypatch.setenv("OPENAI_API_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none needed")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_judge_reads_what_the_rule_cannot(config: Config, judge: list[dict[str, Any]]) -> None:
    """Rows: right by rule, right by judge, none by judge, babble, a letter beyond the options, an error, no answer."""
    texts = ["A", "crimson, I think", "neither of these", "babble", "beyond this", "broken", ""]
    rows = [row(4 * number, options=("red", "blue")) for number in range(1, len(texts) + 1)]
    rows.append(row(1_000_004, "B", ("blue", "red")))
    found = score(config, rows, [*texts, "azure"])
    assert found["circular"] == found["vanilla"] == pytest.approx(2 / 7)
    assert (found["unread"], found["judge_failed"]) == (5, 3)
    assert found["ocr"] == pytest.approx(2 / 7)
    assert len(judge) == 6, "each unread answer is asked once, an empty one never"
    assert {entry["model"] for entry in judge} == {"some-judge"}
    assert {entry["path"] for entry in judge} == {"/v1/chat/completions"}
    prompt = judge[0]["messages"][-1]["content"]
    assert "Question: What color is it?\nA. red\nB. blue\n" in prompt
    assert "answer is" not in prompt


def test_scoring_a_document_never_asks_the_judge(config: Config, judge: list[dict[str, Any]]) -> None:
    config["process_results"](row(1), ["crimson"])
    assert judge == []


def test_a_judge_that_is_not_there_leaves_answers_unread(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALFOCUS_JUDGE", "some-judge")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = score(config, [row(4), row(8)], ["A", "crimson"])
    assert (found["circular"], found["unread"], found["judge_failed"]) == (0.5, 1, 1)


def test_the_test_split_writes_the_file_that_the_server_scores(tmp_path: Path) -> None:
    config = load("df_mmbench_en_test")
    texts = ["B", "=1+1\x0b", ""]
    docs = [row(1_000_002, answer="", split="test"), row(2, split="test"), row(3, split="test")]
    for doc in docs:
        del doc["answer"]
    records = [config["process_results"](doc, [text]) for doc, text in zip(docs, texts, strict=True)]
    metrics = {metric["metric"]: metric["aggregation"] for metric in config["metric_list"]}
    assert set(records[0]) == set(metrics)
    args = SimpleNamespace(output_path=str(tmp_path))
    assert metrics["submission"]([record["submission"] for record in records], args=args) == 3
    assert metrics["unread"]([record["unread"] for record in records]) == 2
    table = pd.read_excel(tmp_path / "submissions" / "mmbench_en_test.xlsx", keep_default_na=False)
    assert list(table.columns) == ["index", "question", "A", "B", "C", "D", "prediction", "split"]
    assert table["index"].tolist() == [2, 3, 1_000_002]
    assert table["prediction"].tolist() == ["=1+1", "", "B"]
    assert table["C"].tolist() == ["", "", ""]


def test_the_mini_asks_every_question_under_every_rotation() -> None:
    documents = pq.read_table(FOLDER / "data" / "mini.parquet").drop_columns(["image"]).to_pylist()
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for document in documents:
        groups[document["index"] % 1_000_000].append(document)
    assert [document for group in groups.values() for document in group] == documents, "rotations are adjacent"
    assert 60 <= len(groups) <= 100
    assert 240 <= len(documents) <= 360
    for group in groups.values():
        options = [tuple(doc[letter] for letter in "ABCD" if doc[letter]) for doc in group]
        assert len(set(options)) == len(group) == len(options[0]) == len(set(options[0]))
        assert {doc[doc["answer"]] for doc in group} == {group[0][group[0]["answer"]]}
        assert {doc["answer"] for doc in group} == set("ABCD"[: len(group)])
    assert {len(group) for group in groups.values()} == {2, 3, 4}
    assert {bool(document["hint"]) for document in documents} == {True, False}


def test_the_mini_fits_the_scoring(config: Config) -> None:
    documents = pq.read_table(FOLDER / "data" / "mini.parquet").drop_columns(["image"]).to_pylist()
    found = score(config, documents, [document["answer"] for document in documents])
    assert found.pop("unread") == found.pop("judge_failed") == found.pop("incomplete") == 0
    assert set(found.values()) == {1.0}
    assert {"coarse_perception", "ocr", "spatial_relationship", "attribute_comparison"} <= set(found)
