"""HR-Bench: rows of one question told from others', prompts, and scores against an independent count."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset, Features, Value
from lmms_eval.tasks.hrbench.utils import hrbench_aggregate_results, hrbench_doc_to_text
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.common.resources import resource_folder
from tests.datasets.test_prepare_hrbench import entry
from tests.tasks.test_vstar import aggregate, answers

Config = dict[str, Any]
TEXTS = ("question", "answer", "category", "A", "B", "C", "D", "cycle_category", "image")


@pytest.fixture(scope="module")
def config() -> Config:
    path = resource_folder("tasks") / "hrbench/df_hrbench_8k.yaml"
    loaded: Config = load_yaml_config(str(path), mode="full")
    return loaded


def release(entries: list[dict[str, str]]) -> Dataset:
    """The hub's columns: images as base64."""
    features = Features({"index": Value("int64"), **dict.fromkeys(TEXTS, Value("string"))})
    return Dataset.from_list([row | {"index": int(row["index"])} for row in entries], features=features)


def test_hub_rows_refer_to_their_image(config: Config) -> None:
    documents = config["process_docs"](release([entry(index) for index in range(8)]))
    assert documents["question_number"][:] == [0] * 4 + [1] * 4
    assert documents["cycle"][:] == [0, 1, 2, 3] * 2
    assert documents[0]["image"]["bytes"] is None
    shown = [config["doc_to_visual"](document)[0].getpixel((3, 3))[0] for document in documents]
    assert [value > 20 for value in shown] == [False] * 4 + [True] * 4


def test_an_image_that_is_no_base64_is_one_that_cannot_be_read(config: Config) -> None:
    (document,) = config["process_docs"](release([entry(0, image="a")]))
    with pytest.raises(OSError, match="the image is not base64"):
        config["doc_to_visual"](document)


def test_equal_words_about_another_image_are_another_question(config: Config) -> None:
    """In the release's order, and with the cycles one after the other."""
    same = [entry(index % 4) | {"index": str(index)} for index in range(8)]
    assert config["process_docs"](release(same))["question_number"][:] == [0] * 4 + [1] * 4
    by_cycle = [entry(index // 2) | {"index": str(index)} for index in range(8)]
    assert config["process_docs"](release(by_cycle))["question_number"][:] == [0, 1] * 4
    mixed = [entry(index) for index in (0, 4, 1, 5, 2, 6, 3, 7)]
    assert config["process_docs"](release(mixed))["question_number"][:] == [0, 1] * 4


def test_scores_are_the_authors_and_as_counted_by_hand(config: Config) -> None:
    rng = random.Random(0)
    documents = config["process_docs"](release([entry(index) for index in range(160)]))
    lettered = [
        {"options": [document[letter] for letter in "ABCD"], "label": document["answer"]} for document in documents
    ]
    given = answers(rng, lettered)  # type: ignore[arg-type]
    given[:4] = [(document["answer"], True, True) for document in documents.select(range(4))]
    records = [config["process_results"](doc, [text]) for doc, (text, *_) in zip(documents, given, strict=True)]
    table = pd.DataFrame(documents.select_columns(["question_number", "category", "cycle_category"])[:])
    table["right"] = [right for _, right, _ in given]
    expected = {
        "accuracy": table.groupby("cycle_category").right.mean().mean(),
        "single": table[table.category == "single"].groupby("cycle_category").right.mean().mean(),
        "cross": table[table.category == "cross"].groupby("cycle_category").right.mean().mean(),
        "first_cycle": table[table.cycle_category == "0"].right.mean(),
        "all_cycles": table.groupby("question_number").right.all().mean(),
        "unread": sum(not read for *_, read in given),
    }
    scores = aggregate(config, records)
    assert scores == pytest.approx(expected, abs=1e-12)
    assert 0 < scores["all_cycles"] < scores["accuracy"]
    theirs = [
        {"index": number, "cycle_category": cycle, "gpt_score": int(right)}
        for number, (cycle, right) in enumerate(zip(table.cycle_category, table.right, strict=True))
    ]
    assert scores["accuracy"] == pytest.approx(hrbench_aggregate_results(theirs, None), abs=1e-12)


def test_the_prompt_is_the_built_in_tasks(config: Config) -> None:
    for index in range(8):
        assert config["doc_to_text"](entry(index)) == hrbench_doc_to_text(entry(index))
