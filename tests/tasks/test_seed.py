"""SEED-Bench against LLaVA's published rule for generated letters, and our reading of longer answers against its word.

LLaVA's script counts an answer as right when it is the letter and nothing else (``exact_letter``). SEED-Bench itself
ranks the options by likelihood and has no rule for generated text. ``accuracy`` also reads a letter that is set off and
an option's own text; what each prediction below means is known from how it was made.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, List, Value
from lmms_eval.tasks.seedbench.utils import seed_doc_to_text, seed_process_result
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.common.resources import resource_folder

FOLDER = resource_folder("tasks") / "seed"
MINI = FOLDER / "data" / "mini.parquet"
Document = dict[str, Any]
DIMENSIONS = (
    "scene_understanding", "instance_identity", "instance_attributes", "instance_location", "instances_counting",
    "spatial_relation", "instance_interaction", "visual_reasoning", "text_understanding",
)  # fmt: skip
TEXTS = ("Blue", "a dog", "two", "The cat", "No", "D-Day", "Être", "3.5", "An apple", "dark blue", "CAFE")
LETTER_FORMS = (
    "{0}", "{1}", " {0} ", "{0}\n", "({0})", "({1})", "{0}.", "{0})", "{0}: {2}", "{0}. {2}", "({0}) {2}", "{0}, {2}",
    "Answer: {0}", "The answer is {0}.", "the correct option is ({0})", "Option {0}", "{0}!", "{3}",
    "**{0}**", '"{0}"', "[{0}]", "\\boxed{{{0}}}", "{0}\n\nIt is {2}.", "I think the answer is {0}.",
)  # fmt: skip
TEXT_FORMS = ("{2}", "{2}.", " {4} ", "{5}")
UNREADABLE = (
    "", "  ", "\n", "E", "(E)", "z.", "{0} and {6}", "AB", "{0}{6}", "It is {2}", "{2} and {7}", "I cannot tell",
    "Because of it", "dogs", "\u0410", "はい", "1", "?", "{0} {2}", "a cat perhaps",
)  # fmt: skip


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = load_yaml_config(str(FOLDER / f"{name}.yaml"), mode="full")
    return config


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return load("df_seed_img")


def cases(count: int) -> list[tuple[Document, str, str]]:
    """Documents, predictions, and the letter that each prediction means (empty for none)."""
    rng = random.Random(0)
    found = []
    for number in range(count):
        texts = rng.sample(TEXTS, 4)
        document = {
            "question_id": str(number), "data_id": f"image-{number % 83}", "data_type": "image",
            "question_type_id": rng.randint(1, 9), "answer": rng.choice("ABCD"), "question": "What?",
            **{f"choice_{letter}": text for letter, text in zip("abcd", texts, strict=True)},
        }  # fmt: skip
        place = rng.choice(("ABCD".index(document["answer"]), rng.randrange(4)))
        letter, other = "ABCD"[place], "ABCD"[(place + 1) % 4]
        wide = chr(ord(letter) - ord("A") + ord("\uff21"))
        forms, meant = rng.choice(((LETTER_FORMS, letter), (TEXT_FORMS, letter), (UNREADABLE, "")))
        text = texts[place]
        prediction = rng.choice(forms).format(
            letter, letter.lower(), text, wide, text.upper(), text.lower(), other, texts[(place + 1) % 4]
        )
        found.append((document, prediction, meant))
    return found


def aggregate(config: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, float]:
    return {
        metric["metric"]: metric["aggregation"](
            [record[metric["metric"]] for record in records if metric["metric"] in record]
        )
        for metric in config["metric_list"]
        if callable(metric["aggregation"])
    }


def test_parity_over_all_and_per_dimension(config: dict[str, Any]) -> None:
    examples = cases(3000)
    records = [config["process_results"](document, [prediction]) for document, prediction, _ in examples]
    table = pd.DataFrame(
        {
            "dimension": [DIMENSIONS[document["question_type_id"] - 1] for document, _, _ in examples],
            "right": [meant == document["answer"] for document, _, meant in examples],
            "exact": [prediction.strip() == document["answer"] for document, prediction, _ in examples],
            "unread": [not meant for _, _, meant in examples],
        }
    )
    scores = aggregate(config, records)
    assert scores["accuracy"] == pytest.approx(table.right.mean(), abs=1e-12)
    assert scores["exact_letter"] == pytest.approx(table.exact.mean(), abs=1e-12)
    assert scores["unread"] == table.unread.sum() > 0
    for dimension, share in table.groupby("dimension").right.mean().items():
        assert scores[dimension] == pytest.approx(share, abs=1e-12)
    assert set(scores) == {*DIMENSIONS, "accuracy", "exact_letter", "unread"}
    assert [record["score"] for record in records] == table.right.astype(float).tolist()
    assert all(record["exact_letter"]["score"] <= record["score"] for record in records)


def test_answers_of_one_character_score_as_in_the_built_in_task(config: dict[str, Any]) -> None:
    for document, _, _ in cases(200):
        for text in ("A", "b", "C", "d", "E", "?", "1", " "):
            theirs = seed_process_result(document, [text])["seed_image"]
            right = theirs["pred"].lower() == theirs["answer"].lower()
            assert config["process_results"](document, [text])["score"] == float(right)


@pytest.mark.parametrize("results", [[], [None], [""], [0], ["\x00"]])
def test_what_is_no_answer_is_counted_and_wrong(config: dict[str, Any], results: list[Any]) -> None:
    record = config["process_results"](cases(1)[0][0], results)
    assert (record["score"], record["unread"]) == (0.0, {"counted": True})


def test_an_option_text_that_two_options_share_names_neither(config: dict[str, Any]) -> None:
    document = cases(1)[0][0] | {"choice_a": "One", "choice_b": "one.", "answer": "A"}
    assert config["process_results"](document, ["one"])["unread"] == {"counted": True}
    blank = document | {"choice_a": "", "choice_b": "."}
    assert config["process_results"](blank, ["."])["unread"] == {"counted": True}


def test_the_prompt_is_llavas(config: dict[str, Any]) -> None:
    for document, _, _ in cases(20):
        assert config["doc_to_text"](document) == seed_doc_to_text(document)


def test_videos_are_left_out_and_no_image_is_opened_for_that(config: dict[str, Any]) -> None:
    broken = [{"bytes": b"no image", "path": None}]
    rows = {"question_id": ["1", "2", "3"], "data_type": ["image", "video", "image"], "image": [broken] * 3}
    dataset = Dataset.from_dict(
        rows,
        features=Features({"question_id": Value("string"), "data_type": Value("string"), "image": List(Image())}),
    )
    kept = config["process_docs"](dataset)
    assert kept.select_columns("question_id")[:] == {"question_id": ["1", "3"]}
    assert kept[1]["image"] == broken


def test_the_embedded_set_has_all_dimensions_and_no_favourite_letter() -> None:
    config = load("df_seed_img_mini")
    rows = pq.read_table(MINI)
    assert rows.schema.field("image").type.value_type.names == ["bytes", "path"]
    documents = rows.drop_columns(["image"]).to_pylist()
    assert 200 <= len(documents) <= 400
    assert len({document["question_id"] for document in documents}) == len(documents)
    per_dimension = Counter(document["question_type_id"] for document in documents)
    assert set(per_dimension) == set(range(1, 10))
    assert min(per_dimension.values()) >= 25
    letters = Counter(document["answer"] for document in documents)
    assert max(letters.values()) - min(letters.values()) <= 9
    for document in documents:
        texts = [document[f"choice_{letter}"] for letter in "abcd"]
        right = texts["ABCD".index(document["answer"])]
        assert len(set(texts)) == 4
        assert right not in document["question"].split()
        for prediction in (document["answer"], right):
            assert config["process_results"](document, [prediction])["score"] == 1.0
    records = [config["process_results"](document, [document["answer"]]) for document in documents]
    assert set(aggregate(config, records).values()) == {1.0, 0}
