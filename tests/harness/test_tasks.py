"""The scoring of our tasks, and their YAMLs as lmms-eval reads them."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.common.resources import resource_folder

TASKS = resource_folder("tasks")
YAMLS = sorted(TASKS.rglob("*.yaml"))
CASES = json.loads(Path(__file__).with_name("scoring.json").read_text())


def load(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = load_yaml_config(str(path), mode="full")
    return config


def task(name: str) -> dict[str, Any]:
    return load(next(path for path in YAMLS if path.stem == name))


def aggregate(config: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, float]:
    """What lmms-eval computes: per metric, the aggregation over the records that have it."""
    return {
        metric["metric"]: metric["aggregation"](
            [record[metric["metric"]] for record in records if metric["metric"] in record]
        )
        for metric in config["metric_list"]
        if callable(metric["aggregation"]) and any(metric["metric"] in record for record in records)
    }


@pytest.mark.parametrize(("text", "reading"), CASES["pope_answers"])
def test_pope_answers_are_read_by_the_official_rule(text: str, reading: str) -> None:
    process = task("df_pope_mini_random")["process_results"]
    record = process({"answer": "yes", "image_source": "1"}, [text])
    assert record["precision"]["prediction"] == reading


def test_pope_metrics_are_over_predictions() -> None:
    config = task("df_pope_mini_random")
    answers = [("yes", "Yes"), ("yes", "No."), ("no", "yes, there is"), ("no", "no"), ("yes", ""), ("no", "Yes")]
    records = [config["process_results"]({"answer": answer, "image_source": "1"}, [text]) for answer, text in answers]
    assert aggregate(config, records) == pytest.approx(
        {
            "accuracy": 3 / 6,
            "precision": 2 / 4,
            "recall": 2 / 3,
            "f1": 4 / 7,
            "yes_ratio": 4 / 6,
            "unanswered": 1,
        }
    )
    assert [record["score"] for record in records] == [1, 0, 0, 1, 1, 0]


def test_pope_without_any_yes_scores_zero_and_does_not_divide_by_it() -> None:
    config = task("df_pope_mini_random")
    records = [config["process_results"]({"answer": "no", "image_source": "1"}, ["no"])]
    scores = aggregate(config, records)
    assert (scores["precision"], scores["recall"], scores["f1"], scores["accuracy"]) == (0, 0, 0, 1)


@pytest.mark.parametrize(("prediction", "answer", "correct"), CASES["scenes_answers"])
def test_scenes_are_scored_by_exact_match(prediction: str, answer: str, correct: bool) -> None:
    process = task("df_scenes_mini")["process_results"]
    record = process({"answer": answer, "image_id": "1", "kind": "text", "level": "detail"}, [prediction])
    assert record["score"] == float(correct)


def test_scenes_count_per_kind_and_per_level() -> None:
    config = task("df_scenes_mini")
    rows = [("text", "detail", "A", "A"), ("text", "detail", "A", "B"), ("scene", "global", "park", "")]
    records = [
        config["process_results"]({"answer": answer, "image_id": "1", "kind": kind, "level": level}, [prediction])
        for kind, level, answer, prediction in rows
    ]
    scores = aggregate(config, records)
    assert scores == pytest.approx(
        {"accuracy": 1 / 3, "detail": 1 / 2, "global": 0, "text": 1 / 2, "scene": 0, "unanswered": 1}
    )


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_file_names_a_task_or_group_of_its_own_name(path: Path) -> None:
    config = load(path)
    assert path.stem in (config.get("group"), config["task"])
    assert path.stem.startswith("df_")


@pytest.mark.parametrize("name", ["df_pope_mini_random", "df_scenes_mini"])
def test_the_prompt_is_the_question_and_a_format_hint(name: str) -> None:
    prompt = task(name)["doc_to_text"]({"question": " Is there a cup? "})
    assert prompt == "Is there a cup?\nAnswer the question using a single word or phrase."


EMBEDDED = [path for path in YAMLS if path.stem.startswith(("df_pope_mini_", "df_scenes_"))]


@pytest.mark.parametrize("path", EMBEDDED, ids=lambda path: path.stem)
def test_embedded_data_fit_their_task(path: Path) -> None:
    config = load(path)
    rows = pq.read_table(config["dataset_kwargs"]["data_files"]["test"])
    metrics = {metric["metric"] for metric in config["metric_list"]}
    documents = rows.drop_columns(["image"]).to_pylist()
    assert documents
    for document in documents:
        record = config["process_results"](document, [document["answer"]])
        assert record["score"] == 1.0
        assert set(record) <= metrics
        assert set(config["process_results"](document, [""])) <= metrics
    assert len({document["question_id"] for document in documents}) == len(documents)
