"""TextVQA against the official rule, written down a second time, and against lmms-eval's copy of its processor."""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from lmms_eval.tasks._task_utils.vqa_eval_metric import EvalAIAnswerProcessor
from lmms_eval.tasks.textvqa.utils import textvqa_process_results
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder

FOLDER = resource_folder("tasks") / "textvqa"
MINI = FOLDER / "data" / "mini.parquet"
Document = dict[str, Any]
WORDS = (
    "", "stop", "STOP", "The Stop", "an apple", "a", "A", "none", "None.", "two", "10", "ten", "1,000", "1.5", "3.",
    ".5", "7:30", "u.s.a.", "dont", "don't", "Im", "somebody'd", "couldnt've", "hes", "she's", "joe's", "coca-cola",
    "coca - cola", "[x]", "what?", "yes!", "é", "Straße", "停止", "٣.", "٣,٤", "nike\nair", "\tred\t", "half/half",
    "a_b", "$5", "&", "'", '"quoted"', "the the", "@home", "x;y", "1 2", "İ", "none of these", "  ",
)  # fmt: skip
JOINTS = (" ", "", ", ", ". ", "-", " - ", "\n", "'s ", "/", "?")
HEADS = ("", "", "", "It says ", "Answer: ", "The answer is ", "the ")


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = load_yaml_config(str(FOLDER / f"{name}.yaml"), mode="full")
    return config


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return load("df_textvqa_val")


def say(rng: random.Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return rng.choice(HEADS) + rng.choice(JOINTS).join(words) + rng.choice(("", "", ".", "!", " "))


def cases(count: int) -> list[tuple[Document, str]]:
    """Documents with ten answers that agree more or less, and predictions that often are one of them, respelt."""
    rng = random.Random(0)
    found = []
    for number in range(count):
        pool = [say(rng) for _ in range(rng.randint(1, 4))]
        answers = [rng.choice(pool) for _ in range(10)]
        prediction = rng.choice(
            (say(rng), rng.choice(answers), rng.choice(answers).upper(), f"The {rng.choice(pool)}.")
        )
        document = {"question_id": number, "image_id": f"image-{number % 97}", "question": "what?", "answers": answers}
        found.append((document, prediction))
    return found


SIGNS = ';/[]"{}()=+\\_-><@`!'
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def processed(text: str) -> str:
    """The answer processor from its description, sign by sign; the table is taken from lmms-eval's copy of it."""
    text = re.sub(r"'s", " 's", re.sub(r"[,?]", "", text.lower())).strip()
    text = re.sub(r"[\n\t]", " ", text).strip()
    spaced = {sign for sign in SIGNS if re.search(rf" {re.escape(sign)}|{re.escape(sign)} ", text)}
    first, *pieces = "".join("" if sign in spaced else " " if sign in SIGNS else sign for sign in text).split(".")
    kept, dropped = first, 0
    for piece in pieces:
        cut = not piece[:1].isdecimal() and dropped < 32
        dropped += cut
        kept += piece if cut else "." + piece
    words = []
    for word in kept.split():
        number = "0" if word == "none" else str(NUMBERS.index(word)) if word in NUMBERS else word
        if number not in {"a", "an", "the"}:
            words.append(EvalAIAnswerProcessor.CONTRACTIONS.get(number, number))
    return " ".join(words)


def official(document: Document, prediction: str) -> float:
    """Mean over all subsets of nine answers of min(1, how many are the prediction / 3)."""
    answers, said = [processed(answer) for answer in document["answers"]], processed(prediction)
    scores = [min(1.0, subset.count(said) / 3) for subset in itertools.combinations(answers, 9)]
    return sum(scores) / len(scores)


def test_parity_with_the_official_rule(config: dict[str, Any]) -> None:
    examples = cases(2000)
    before = copy.deepcopy(examples)
    records = [config["process_results"](document, [prediction]) for document, prediction in examples]
    assert examples == before
    expected = [official(*example) for example in examples]
    assert [record["score"] for record in records] == pytest.approx(expected, abs=1e-12)
    assert [record["vqa_accuracy"]["score"] for record in records] == [record["score"] for record in records]
    aggregated = {
        metric["metric"]: metric["aggregation"]([record[metric["metric"]] for record in records])
        for metric in config["metric_list"]
        if callable(metric["aggregation"])
    }
    assert aggregated["vqa_accuracy"] == pytest.approx(sum(expected) / len(expected), abs=1e-12)
    assert aggregated["unanswered"] == sum(not prediction.strip() for _, prediction in examples) > 0
    assert 0.1 < aggregated["vqa_accuracy"] < 0.9
    assert len({round(score, 6) for score in expected}) >= 4


def test_parity_with_the_built_in_task(config: dict[str, Any]) -> None:
    for document, prediction in cases(2000):
        ours = config["process_results"](document, [prediction])["score"]
        # The built-in task changes the document's answers.
        theirs = textvqa_process_results(copy.deepcopy(document), [prediction])["exact_match"]
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_every_contraction_is_spelt_as_in_the_official_table(config: dict[str, Any]) -> None:
    normalise = config["process_results"].__globals__["normalise"]
    official_processor = EvalAIAnswerProcessor()
    table = EvalAIAnswerProcessor.CONTRACTIONS
    assert len(config["process_results"].__globals__["SPELLINGS"]) >= 110
    for word in {*table, *table.values(), "lets", "ill", "im", "." * 40 + "a", "x." * 40, "1.2.3.", "a.b", "none"}:
        assert normalise(word) == official_processor(word)


@pytest.mark.parametrize("results", [[], [None], [""], ["\n"], [7]])
def test_what_is_no_answer_is_counted_and_scored_by_the_rule(config: dict[str, Any], results: list[Any]) -> None:
    document = {"image_id": "1", "answers": ["stop"] * 10}
    record = config["process_results"](document, results)
    assert record["score"] == 0
    assert record["unanswered"] == {"counted": results != [7]}


def test_the_rule_gives_an_empty_answer_what_it_gives_an_article(config: dict[str, Any]) -> None:
    """As the official processor does; the count beside the score shows it."""
    record = config["process_results"]({"image_id": "1", "answers": ["A"] * 10}, [""])
    assert (record["score"], record["unanswered"]) == (1.0, {"counted": True})


def test_prompts_are_llavas() -> None:
    (document,) = load("df_textvqa_val")["process_docs"](
        Dataset.from_list([{"question": "what is the brand of this camera? ", "ocr_tokens": ["DAKOTA", "DIGITAL"]}])
    )
    hint = "Answer the question using a single word or phrase."
    assert load("df_textvqa_val")["doc_to_text"](document) == f"What is the brand of this camera?\n{hint}"
    for name in ("df_textvqa_val_ocr", "df_textvqa_ocr_mini"):
        assert (
            load(name)["doc_to_text"](document)
            == f"What is the brand of this camera?\nReference OCR token: DAKOTA, DIGITAL\n{hint}"
        )
    none_found = load("df_textvqa_val_ocr")["doc_to_text"](document | {"ocr_tokens": []})
    assert "\nReference OCR token: \n" in none_found


def test_tokens_that_are_not_known_are_not_taken_for_none() -> None:
    with pytest.raises(UserError, match=r"question 34602 has no OCR tokens: .*Rosetta"):
        load("df_textvqa_val_ocr")["doc_to_text"]({"question_id": 34602, "stem": "What?", "ocr_tokens": None})


def test_the_test_split_is_written_for_the_server(tmp_path: Path) -> None:
    config = load("df_textvqa_test")
    texts = [(39603, "Nokia "), (39602, ""), (39604, 'é "x"')]
    records = [
        config["process_results"]({"question_id": number, "answers": [], "image_id": "a"}, [text])
        for number, text in texts
    ]
    assert all("score" not in record for record in records)
    aggregations = {metric["metric"]: metric["aggregation"] for metric in config["metric_list"]}
    written = aggregations["submission"](
        [record["submission"] for record in records], args=SimpleNamespace(output_path=str(tmp_path))
    )
    assert written == 3
    (file,) = tmp_path.rglob("*.json")
    assert json.loads(file.read_text()) == [
        {"question_id": 39602, "answer": ""},
        {"question_id": 39603, "answer": "Nokia"},
        {"question_id": 39604, "answer": 'é "x"'},
    ]
    assert aggregations["unanswered"]([record["unanswered"] for record in records]) == 1
    assert config["doc_to_target"]({"answers": []}) == ""


def test_embedded_questions_can_be_answered_and_not_from_their_text() -> None:
    config = load("df_textvqa_mini")
    assert config["dataset_kwargs"]["data_files"]["test"] == str(MINI)
    documents = pq.read_table(MINI).drop_columns(["image"]).to_pylist()
    assert 200 <= len(documents) <= 400
    assert len({document["question_id"] for document in documents}) == len(documents)
    for document in documents:
        target = config["doc_to_target"](document)
        assert config["process_results"](document, [target])["score"] == 1.0
        assert target.upper() in document["ocr_tokens"]
        assert target.upper() not in document["question"].upper().split()
    by_question: dict[tuple[str, str], int] = {}
    for document in documents:
        key = document["image_id"], document["question"]
        by_question[key] = by_question.get(key, 0) + 1
    assert set(by_question.values()) == {1}
    dissent = [len({answer.upper() for answer in document["answers"]}) > 1 for document in documents]
    assert 0.5 < sum(dissent) / len(dissent) < 1
    several = [len(set(document["ocr_tokens"])) > 1 for document in documents]
    assert sum(several) / len(several) > 0.5
