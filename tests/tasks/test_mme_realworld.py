"""MME-RealWorld-Lite: the hub's rows, prompts, and scores per task and scenario against an independent count."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset
from lmms_eval.tasks.mme_realworld.utils import mme_realworld_doc_to_text
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.datasets.mme_realworld import OPTIONS
from tests.datasets.test_prepare_mmbench import encoded
from tests.datasets.test_prepare_mme_realworld import CHOICES
from tests.tasks.test_vstar import aggregate, answers

Config = dict[str, Any]
CATEGORIES = (
    "Perception/Monitoring", "Perception/Autonomous_Driving", "Perception/OCR with Complex Context",
    "Perception/Diagram and Table", "Perception/Remote Sensing", "Reasoning/Monitoring",
    "Reasoning/Autonomous_Driving", "Reasoning/OCR with Complex Context", "Reasoning/Diagram and Table",
)  # fmt: skip


@pytest.fixture(scope="module")
def config() -> Config:
    path = resource_folder("tasks") / "mme_realworld/df_mme_realworld_lite.yaml"
    loaded: Config = load_yaml_config(str(path), mode="full")
    return loaded


def record(number: int, **more: Any) -> dict[str, Any]:
    """The hub's columns: the image as base64."""
    return {
        "index": str(number), "bytes": encoded(number), "question": f"What is {number}?", OPTIONS: CHOICES,
        "answer": "ABCD"[number % 4], "category": CATEGORIES[number % 9], "l2-category": "c", **more,
    }  # fmt: skip


def test_hub_rows_refer_to_their_image(config: Config) -> None:
    documents = config["process_docs"](Dataset.from_list([record(0), record(200)]))
    assert "bytes" not in documents.column_names
    assert [config["doc_to_visual"](document)[0].getpixel((3, 3))[0] > 100 for document in documents] == [False, True]
    assert documents[0]["options"][4] == "The image does not feature the content."


def test_options_keep_what_is_no_label_of_theirs(config: Config) -> None:
    (document,) = config["process_docs"](Dataset.from_list([record(0, **{OPTIONS: [" (A)red ", "(A) blue", "green"]})]))
    assert document["options"] == ["red", "(A) blue", "green"]
    with pytest.raises(UserError, match=r"^record 1 of MME-RealWorld-Lite has 1 options, not two to five"):
        config["process_docs"](Dataset.from_list([record(0, **{OPTIONS: ["(A) red"]})]))


def test_scores_are_as_counted_by_hand(config: Config) -> None:
    documents = config["process_docs"](Dataset.from_list([record(number) for number in range(180)]))
    lettered = [{"options": document["options"], "label": document["answer"]} for document in documents]
    given = answers(random.Random(0), lettered)  # type: ignore[arg-type]
    given = [(text if text != "E" else "", right, read) for text, right, read in given]  # the fifth option's letter
    records = [config["process_results"](doc, [text]) for doc, (text, *_) in zip(documents, given, strict=True)]
    table = pd.DataFrame({"category": documents["category"][:], "right": [right for _, right, _ in given]})
    table["task"] = table.category.str.split("/").str[0].str.lower()
    table["scenario"] = table.category.str.lower().str.replace(r"[ /]", "_", regex=True)
    expected = {"accuracy": table.right.mean(), "unread": sum(not read for *_, read in given)}
    expected |= table.groupby("task").right.mean().to_dict() | table.groupby("scenario").right.mean().to_dict()
    assert aggregate(config, records) == pytest.approx(expected, abs=1e-12)
    assert len(expected) == 2 + 2 + 9


def test_a_category_that_the_release_does_not_have_counts_over_all_alone(config: Config) -> None:
    (document,) = config["process_docs"](Dataset.from_list([record(1, category="Perception/Else")]))
    assert set(config["process_results"](document, ["B"])) == {"accuracy", "unread", "score"}


def test_the_prompt_is_the_built_in_tasks(config: Config) -> None:
    for number in range(4):
        assert config["doc_to_text"](record(number)) == mme_realworld_doc_to_text(record(number))
