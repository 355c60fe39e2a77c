"""df_gqa and df_gqa_mcq: scored as the official scorer does, and read from the hub without loading its images."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from lmms_eval.utils import load_yaml_config
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.datasets import gqa_hub
from dualfocus_eval.datasets.gqa import STRUCTURAL
from dualfocus_eval.method.images import prepare_picture

FOLDER = resource_folder("tasks") / "gqa"
ANSWERS = ("yes", "no", "red", "dark blue", "t-shirt", "to the left", "man", "Ferris wheel", "tv", "café", "a.m.")
HINT = "Answer with the option's letter from the given choices directly."


def config(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = load_yaml_config(str(FOLDER / f"{name}.yaml"), mode="full")
    return loaded


def aggregates(task: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, float]:
    """As lmms-eval: per metric, its aggregation over the records that have it."""
    values: dict[str, float] = {}
    for metric in task["metric_list"]:
        name, aggregation = metric["metric"], metric["aggregation"]
        found = [record[name] for record in records if name in record]
        if found:
            values[name] = aggregation(found) if callable(aggregation) else sum(found) / len(found)
    return values


def verbose(rng: random.Random, answer: str) -> str:
    """``answer`` as models write it, or something else."""
    shaped = rng.choice([str, str.upper, str.title, str.lower])(answer)
    ending = rng.choice(["", "", ".", "..", " .", "!", "?", "\n", " ", ".\n", "。"])
    around = rng.choice(["{}", "{}", "{}", " {}", "The {}", "it is {}", "{} and more", "{}\n{}", "“{}”", "**{}**", ""])
    return around.replace("{}", shaped) + ending


def official(prediction: str, answer: str) -> int:
    """LLaVA's conversion, then the official comparison; written apart from the code under test."""
    handed_over = re.sub(r"[.]*\Z", "", re.sub(r"\A\s+|\s+\Z", "", prediction)).lower()
    return [handed_over, answer].count(answer) - 1


def expected(rows: list[dict[str, Any]]) -> dict[str, float]:
    table = pd.DataFrame(rows)
    typed = table[table["type"] != ""]
    means = dict(typed.groupby("type")["right"].mean())
    means |= dict(typed.groupby(typed["type"].map({"query": "open"}).fillna("binary"))["right"].mean())
    return {"accuracy": table["right"].mean(), "score": table["right"].mean(), **means}


def test_parity_of_the_open_ended_task_with_the_official_rule() -> None:
    task, rng = config("df_gqa"), random.Random(0)
    records, rows = [], []
    for number in range(3000):
        answer, structural = rng.choice(ANSWERS), rng.choice(STRUCTURAL)
        text = verbose(rng, rng.choice([answer, answer, rng.choice(ANSWERS)]))
        doc = {"id": str(number), "imageId": "n1", "answer": answer, "types": {"structural": structural}}
        records.append(task["process_results"](doc, [text]))
        rows.append({"type": structural, "right": official(text, answer), "empty": re.fullmatch(r"[\s.]*", text)})
    scores = aggregates(task, records)
    assert scores.pop("unanswered") == sum(row["empty"] is not None for row in rows) > 0
    assert scores == pytest.approx(expected(rows), abs=1e-12)
    assert 0.1 < scores["accuracy"] < 0.9


def lettered(rng: random.Random, options: list[str]) -> tuple[str, int | None]:
    """A prediction and the option whose letter it gives, known because it was written for it."""
    index = rng.randrange(len(options))
    letter, other = "ABCD"[index], "ABCD"[rng.randrange(len(options))]
    forms = [
        letter, letter.lower(), f"{letter}.", f"({letter})", f" {letter}\n", f"{letter}. {options[index]}",
        f"{letter}: it", f"Answer: {letter}", f"The answer is {letter}.", f"the correct option is ({letter.lower()})",
        f"**{letter}**", f"{letter}\n\nIt is.", chr(ord("\uff21") + index),  # a fullwidth letter
    ]  # fmt: skip
    without = [
        verbose(rng, rng.choice(options)), f"{letter} or {other}", f"{letter}, {other}", f"{letter}{other}", "Blue",
        "a dog", "Because", "", " ", "E", "z)", "\uff41nswer", "É", "1", "none of these",
    ]  # fmt: skip
    return (rng.choice(forms), index) if rng.random() < 0.6 else (rng.choice(without), None)


def test_parity_of_the_multiple_choice_task_with_the_official_rule() -> None:
    task, rng = config("df_gqa_mcq"), random.Random(1)
    records, rows = [], []
    for number in range(3000):
        options = rng.sample(ANSWERS, rng.choice([2, 4]))
        answer, structural = rng.choice([*options, rng.choice(ANSWERS)]), rng.choice([*STRUCTURAL, ""])
        text, index = lettered(rng, options)
        doc = {
            "question_id": str(number), "image_id": "n1", "options": options, "answer": answer,
            "question_type": structural,
        }  # fmt: skip
        records.append(task["process_results"](doc, [text]))
        unread = index is None and not any(official(text, re.sub("[.]+$", "", option.lower())) for option in options)
        right = official(text if index is None else options[index], answer)
        rows.append({"type": structural, "right": right, "unread": unread})
    scores = aggregates(task, records)
    assert scores.pop("unread") == sum(row["unread"] for row in rows) > 0
    assert scores.pop("unanswerable") > 0
    assert scores == pytest.approx(expected(rows), abs=1e-12)


@pytest.mark.parametrize("results", [[], [""], [None], ["  "], ["."], ["\x00"], ["A" * 10_000], ["🙂"]])
@pytest.mark.parametrize("name", ["df_gqa", "df_gqa_mcq"])
def test_odd_answers_are_wrong_counted_and_raise_nothing(name: str, results: list[Any]) -> None:
    doc = {
        "imageId": "n1", "image_id": "n1", "answer": "red", "types": {"structural": "query"},
        "options": ["red", "blue"], "question_type": "query",
    }  # fmt: skip
    record = config(name)["process_results"](doc, results)
    assert (record["score"], record["accuracy"]["score"], record["query"]["image_id"]) == (0.0, 0.0, "n1")
    if not str(results[0] if results and results[0] else "").strip(" ."):
        assert record["unanswered" if name == "df_gqa" else "unread"]["counted"]


def test_a_right_answer_that_no_option_holds_is_counted() -> None:
    """The official scorer counts such a question as wrong, whatever letter is given."""
    doc = {"image_id": "n1", "answer": "teal", "options": ["red", "blue"], "question_type": "query"}
    record = config("df_gqa_mcq")["process_results"](doc, ["A"])
    assert (record["score"], record["unread"]["counted"], record["unanswerable"]["counted"]) == (0.0, False, True)


def test_prompts_are_llavas() -> None:
    assert config("df_gqa")["doc_to_text"]({"question": " Is it red? "}) == (
        "Is it red?\nAnswer the question using a single word or phrase."
    )
    assert config("df_gqa_mcq")["doc_to_text"]({"text": "Is it?\nA. yes\nB. no"}) == f"Is it?\nA. yes\nB. no\n{HINT}"


@pytest.mark.parametrize("name", ["df_gqa_mini", "df_gqa_mcq_mini"])
def test_minis_are_scored_by_the_code_of_the_real_sets(name: str) -> None:
    mini, real = config(name), config(name.removesuffix("_mini"))
    for key in ("doc_to_text", "process_results", "process_docs"):
        assert mini[key].__code__ == real[key].__code__
    rows = pq.read_table(mini["dataset_kwargs"]["data_files"]["test"])
    assert rows.num_rows == 360
    documents = rows.drop_columns(["image"]).to_pylist()
    scores = aggregates(mini, [mini["process_results"](row, [row["answer"]]) for row in documents])
    assert scores == {metric["metric"]: scores[metric["metric"]] for metric in mini["metric_list"]}
    assert all(scores[structural] == 1.0 for structural in STRUCTURAL)
    assert scores.get("unread", 0) == scores.get("unanswerable", 0) == scores.get("unanswered", 0) == 0


def test_the_embedded_choices_hold_the_answer_once_and_in_every_place() -> None:
    rows = pq.read_table(FOLDER / "data/gqa_mcq.parquet").drop_columns(["image"]).to_pylist()
    assert all(row["options"].count(row["answer"]) == 1 for row in rows)
    places = pd.Series([row["options"].index(row["answer"]) for row in rows if len(row["options"]) == 4])
    assert dict(places.value_counts()) == {0: 30, 1: 30, 2: 30, 3: 30}


def test_minis_have_the_columns_of_prepared_sets_and_their_images_open() -> None:
    for name, file in (("df_gqa_mini", "gqa"), ("df_gqa_mcq_mini", "gqa_mcq")):
        rows = load_dataset("parquet", data_files=str(FOLDER / f"data/{file}.parquet"), split="train")
        task = config(name)
        rows = task["process_docs"](rows)
        (image,) = task["doc_to_visual"](rows[7])
        assert (image.mode, min(image.size)) == ("RGB", 384) or min(image.size) == 448


def test_prepared_rows_open_the_image_at_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path))
    (tmp_path / "gqa" / "images").mkdir(parents=True)
    Image.new("L", (31, 20)).save(tmp_path / "gqa" / "images" / "n1.png")
    (image,) = config("df_gqa")["doc_to_visual"]({"image": {"bytes": None, "path": "gqa/images/n1.png"}})
    assert (image.mode, image.size) == ("RGB", (31, 20))


# --- the hub, which a local folder of the dataset's name stands for ---


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """GQA's two configurations with 40 images, and GQA-MCQ's file, in the working directory."""
    folder = tmp_path / "lmms-lab-encoder" / "GQA"
    for part in ("images", "instructions"):
        (folder / part).mkdir(parents=True)
    images = [
        {"id": f"n{number}", "image": Image.new("RGB", (30 + number, 20), (number, 0, 0))} for number in range(40)
    ]
    features = Features({"id": Value("string"), "image": ImageFeature()})
    Dataset.from_list(images, features=features).to_parquet(folder / "images" / "testdev.parquet")
    questions = [
        {
            "id": f"q{number}", "imageId": f"n{number // 2}", "question": f"What color is thing {number}?",
            "answer": ("red", "blue")[number % 2], "fullAnswer": "It is.",
            "types": {"structural": "query", "semantic": "attr", "detailed": "color"},
        }
        for number in range(80)
    ]  # fmt: skip
    Dataset.from_list(questions).to_parquet(folder / "instructions" / "testdev.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: testdev_balanced_images\n  data_files:\n  - {split: testdev, path: images/*}\n"
        "- config_name: testdev_balanced_instructions\n  data_files:\n  - {split: testdev, path: instructions/*}\n---\n"
    )
    (tmp_path / "yhcao" / "GQA-MCQ").mkdir(parents=True)
    write_mcq(tmp_path, [mcq_record(number) for number in range(80)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DUALFOCUS_DATA", raising=False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    gqa_hub._images.cache_clear()
    yield tmp_path
    gqa_hub._images.cache_clear()


def mcq_record(number: int) -> dict[str, Any]:
    text = f"What color is thing {number}?\nA. red\nB. blue\nC. green\nD. white"
    return {"question_id": f"q{number}", "image": f"n{number // 2}.jpg", "question": text}


def write_mcq(folder: Path, records: list[dict[str, Any]]) -> None:
    file = folder / "yhcao" / "GQA-MCQ" / "llava_gqa_testdev_balanced_mcq.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def load(name: str) -> tuple[dict[str, Any], Any]:
    """The task's documents, loaded as lmms-eval loads them."""
    task = config(name)
    dataset = load_dataset(
        path=task["dataset_path"], name=task.get("dataset_name"), **(task.get("dataset_kwargs") or {})
    )
    return task, task["process_docs"](dataset[task["test_split"]])


@pytest.mark.parametrize("name", ["df_gqa", "df_gqa_mcq"])
def test_of_the_hubs_images_only_those_asked_for_are_decoded(
    name: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counted(*image: Any) -> Any:
        decoded.append(image)
        return prepare_picture(*image)

    def refused(*image: Any, **more: Any) -> Any:
        raise AssertionError("decoded by datasets")

    monkeypatch.setattr(ImageFeature, "decode_example", refused)
    monkeypatch.setattr("dualfocus_eval.datasets.prepared.prepare_picture", counted)
    task, documents = load(name)
    assert len(documents) == 80
    assert decoded == []
    widths = [task["doc_to_visual"](documents[number])[0].width for number in (0, 1, 77)]
    assert widths == [30, 30, 68]
    assert len(decoded) == 3


def test_rows_of_one_image_share_their_reference(hub: Path) -> None:
    """By which the model groups questions about an image."""
    _, documents = load("df_gqa")
    paths = [row["path"] for row in documents["image"]]
    assert paths[:3] == ["lmms-lab-encoder/GQA/n0", "lmms-lab-encoder/GQA/n0", "lmms-lab-encoder/GQA/n1"]


def test_published_choices_are_joined_with_gqas_answers(hub: Path) -> None:
    task, documents = load("df_gqa_mcq")
    row = documents[3]
    assert (row["stem"], row["options"]) == ("What color is thing 3?", ["red", "blue", "green", "white"])
    assert (row["answer"], row["question_type"], row["image_id"]) == ("blue", "query", "n1")
    assert task["doc_to_text"](row) == f"{mcq_record(3)['question']}\n{HINT}"
    assert task["process_results"](row, ["B"])["score"] == 1.0


def test_published_choices_that_cannot_be_read_are_named(hub: Path) -> None:
    write_mcq(hub, [mcq_record(0), {"question_id": "q1", "image": "n0.jpg", "question": "What is it?"}])
    with pytest.raises(
        UserError, match=r"1 of 2 records of GQA-MCQ cannot be read, first record 2: question q1: no opt"
    ):
        load("df_gqa_mcq")


def test_an_image_that_the_hub_lacks_is_named(hub: Path) -> None:
    with pytest.raises(UserError, match=r"image n99 is not in lmms-lab-encoder/GQA"):
        gqa_hub.open_image(gqa_hub.reference("n99"))
