"""V*Bench: its text taken apart, and the options in every order scored against an independent count."""

from __future__ import annotations

import io
import math
import random
from collections import Counter
from itertools import permutations
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from lmms_eval.tasks.vstar_bench.utils import vstar_doc_to_text
from lmms_eval.utils import load_yaml_config
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.harness.requests import ImageKeys
from dualfocus_eval.harness.structure import read_structure

Config = dict[str, Any]
Record = dict[str, Any]
FOLDER = resource_folder("tasks") / "vstar"
HINT = "Answer with the option's letter from the given choices directly."
TEXTS = ("red", "light blue", "Dr. Shaw", "2", "a cat (on the left)", "No")
FORMS = ("{0}", "{1}", "({0})", "**{0}**", "{0}. {2}", "The answer is {0}.", "{2}", "{3}")
UNREAD = ("", "I cannot tell", "E", "A or B")


def load(name: str) -> Config:
    config: Config = load_yaml_config(str(FOLDER / f"{name}.yaml"), mode="full")
    return config


def text_of(stem: str, options: list[str]) -> str:
    lines = (f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=False))
    return "\n".join([stem, *lines, HINT])


def release(rng: random.Random, count: int) -> Dataset:
    """The hub's columns: images in the rows, two to four options in the text."""
    records = []
    for number in range(count):
        content = io.BytesIO()
        Image.new("RGB", (20 + number, 10), (number, 90, 30)).save(content, "PNG")
        options = rng.sample(TEXTS, 2 + number % 3)
        records.append({
            "image": {"bytes": content.getvalue(), "path": None}, "text": text_of(f"What is {number}?", options),
            "category": rng.choice(("direct_attributes", "relative_position")),
            "label": rng.choice("ABCD"[: len(options)]), "question_id": str(number),
        })  # fmt: skip
    texts = dict.fromkeys(("text", "category", "label", "question_id"), Value("string"))
    return Dataset.from_list(records, features=Features({"image": ImageFeature(), **texts}))


def aggregate(config: Config, records: list[Record]) -> dict[str, float]:
    return {
        metric["metric"]: metric["aggregation"](
            [record[metric["metric"]] for record in records if metric["metric"] in record]
        )
        for metric in config["metric_list"]
        if callable(metric["aggregation"])
    }


def answers(rng: random.Random, documents: Dataset) -> list[tuple[str, bool, bool]]:
    """For every document an answer, and whether it is right and whether it can be read, known from how it was made."""
    found = []
    for document in documents:
        if rng.random() < 0.2:
            found.append((rng.choice(UNREAD), False, False))
            continue
        options, right = document["options"], "ABCD".index(document["label"])
        place = rng.choice((right, right, rng.randrange(len(options))))
        option = options[place]
        answer = rng.choice(FORMS).format("ABCDE"[place], "abcde"[place], option, option.upper())
        found.append((answer, place == right, True))
    return found


def test_every_order_of_the_options_is_asked_once_about_one_image() -> None:
    dataset = release(random.Random(0), 3)
    config = load("df_vstar_orders")
    rows, plain = config["process_docs"](dataset), load("df_vstar")["process_docs"](dataset)
    assert len(rows) == sum(math.factorial(len(document["options"])) for document in plain) == 2 + 6 + 24
    for document in plain:
        asked = [row for row in rows if row["question_id"] == document["question_id"]]
        assert {tuple(row["options"]) for row in asked} == set(permutations(document["options"]))
        right = document["options"]["ABCD".index(document["label"])]
        assert {row["options"]["ABCD".index(row["label"])] for row in asked} == {right}
        expected = config["doc_to_visual"](document)[0].tobytes()
        assert {config["doc_to_visual"](row)[0].tobytes() for row in asked} == {expected}
        assert all(row["stem"] == document["stem"] for row in asked)
    assert all(row["image"]["bytes"] is None for row in rows)
    keys = ImageKeys({"t": {"test": rows}})
    requests = [type("Asked", (), {"task": "t", "split": "test", "doc_id": number}) for number in range(len(rows))]
    assert Counter(map(keys.key, requests)).total() == 32  # type: ignore[arg-type]
    assert sorted(Counter(map(keys.key, requests)).values()) == [2, 6, 24]  # type: ignore[arg-type]


def test_orders_are_scored_as_counted_by_hand() -> None:
    rng, config = random.Random(1), load("df_vstar_orders")
    documents = config["process_docs"](release(rng, 40))
    given = answers(rng, documents)
    for number, document in enumerate(documents):  # a question that is right in every order, and one in none
        if document["question_id"] in ("5", "6"):
            given[number] = (document["label"], True, True) if document["question_id"] == "5" else ("", False, False)
    records = [config["process_results"](doc, [text]) for doc, (text, *_) in zip(documents, given, strict=True)]
    table = pd.DataFrame(documents.select_columns(["question_id", "category", "label"])[:])
    table["right"], table["read"] = [right for _, right, _ in given], [read for *_, read in given]
    shares = table.groupby(["category", "question_id"]).right.mean()
    expected = {
        "accuracy": shares.mean(),
        "direct_attributes": shares["direct_attributes"].mean(),
        "relative_position": shares["relative_position"].mean(),
        "all_orders": (shares == 1).mean(),
        **{f"right_at_{letter.lower()}": share for letter, share in table.groupby("label").right.mean().items()},
        "unread": (~table["read"]).sum(),
    }
    assert aggregate(config, records) == pytest.approx(expected, abs=1e-12)
    assert [record["score"] for record in records] == table.right.astype(float).tolist()
    assert 0 < expected["all_orders"] < expected["accuracy"]
    assert {name for record in records for name in record} == {metric["metric"] for metric in config["metric_list"]}


def test_an_answer_that_is_always_a_is_right_at_a_alone() -> None:
    config = load("df_vstar_orders")
    documents = config["process_docs"](release(random.Random(2), 3))
    scores = aggregate(config, [config["process_results"](document, ["A"]) for document in documents])
    assert (scores["right_at_a"], scores["right_at_b"], scores["all_orders"]) == (1, 0, 0)
    assert scores["accuracy"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3, abs=1e-12)


def test_released_questions_are_scored_per_category() -> None:
    rng, config = random.Random(3), load("df_vstar")
    documents = config["process_docs"](release(rng, 60))
    given = answers(rng, documents)
    records = [config["process_results"](doc, [text]) for doc, (text, *_) in zip(documents, given, strict=True)]
    table = pd.DataFrame({"category": documents["category"][:], "right": [right for _, right, _ in given]})
    expected = {"accuracy": table.right.mean(), "unread": sum(not read for *_, read in given)}
    expected |= table.groupby("category").right.mean().to_dict()
    assert aggregate(config, records) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", [["red", "light blue", "green", "white"], ["right", "left"]])
def test_stem_options_and_prompt(options: list[str]) -> None:
    config = load("df_vstar")
    dataset = release(random.Random(4), 1)
    for text in (text_of("Is it new? What is it?", options), text_of("Is it new? What is it?", options)[: -len(HINT)]):
        (document,) = config["process_docs"](
            dataset.remove_columns("text").add_column("text", [text]).remove_columns("label").add_column("label", ["A"])
        )
        structure = read_structure(config["metadata"], "df_vstar")
        assert structure.stem_of(document) == "Is it new? What is it?"
        assert structure.options_of(document) == tuple(options)
    wording = {"pre_prompt": "", "post_prompt": f"\n{HINT}"}
    assert config["doc_to_text"](document) == vstar_doc_to_text({"text": text}, wording)


def test_a_record_that_is_no_question_is_named() -> None:
    dataset = release(random.Random(5), 2)
    broken = dataset.remove_columns("text").add_column("text", [dataset[0]["text"], "What is it?"])
    with pytest.raises(UserError, match=r"^record 2 of V\*Bench: text is no question .* dualfocus data prepare vstar"):
        load("df_vstar")["process_docs"](broken)


def test_the_embedded_set_asks_about_small_details_and_has_no_favourite_letter() -> None:
    config = load("df_detail_mini")
    table = pq.read_table(FOLDER / "data" / "mini.parquet")
    images = table.column("image").combine_chunks().field("bytes").unique().to_pylist()
    sizes = [Image.open(io.BytesIO(image)).size for image in images]
    assert {max(size) for size in sizes} == {2000}
    smallest = min(width * height for width, height in sizes)
    documents = config["process_docs"](Dataset(table))
    kinds, letters = Counter(documents["kind"]), Counter(documents["label"])
    assert len(documents) >= 1000
    assert min(kinds.values()) >= 200
    assert max(letters.values()) - min(letters.values()) <= 6
    metrics = {metric["metric"] for metric in config["metric_list"]}
    for document in documents.remove_columns("image"):
        (left, top, right, bottom), (x1, y1, x2, y2) = document["box"], document["target"]
        assert 0 < (x2 - x1) * (y2 - y1) < 0.01 * smallest
        assert 0 <= left < x1 < x2 < right <= 2000
        assert 0 <= top < y1 < y2 < bottom <= 2000
        answer = document["options"]["ABCD".index(document["label"])]
        assert len({*document["options"]}) == 4
        assert answer not in document["stem"].split()
        for text in (document["label"], answer):
            record = config["process_results"](document, [text])
            assert record["score"] == 1.0
            assert set(record) <= metrics
