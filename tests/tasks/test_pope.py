"""POPE against its authors' rule, written down a second time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.common.resources import resource_folder

HEADS = ("", "yes", "Yes", "YES", "no", "No", "NO", "not", "Not really", "nope", "know", "there is", "はい", "нет", "A")
TAILS = ("", ".", ",", "!", " ", "\n", ". No.", ". Yes.", ", it is not", " there is no cup", "; no", "\u00a0no", " No,")


def official(text: str) -> int:
    """1 for yes: the first sentence without commas has none of three words."""
    sentence = text[: text.index(".")] if "." in text else text
    tokens = sentence.replace(",", "").split(" ")
    return int(all(token not in ("No", "not", "no") for token in tokens))


def predictions(count: int) -> list[tuple[str, str]]:
    rng = random.Random(0)
    return [
        (rng.choice(("yes", "no")), rng.choice(HEADS) + rng.choice(TAILS) + rng.choice(("", rng.choice(HEADS))))
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", ["df_pope_random", "df_pope_mini_popular"])
def test_scores_are_the_official_ones(name: str) -> None:
    (path,) = resource_folder("tasks").rglob(f"{name}.yaml")
    config: dict[str, Any] = load_yaml_config(str(Path(path)), mode="full")
    cases = predictions(3000)
    records = [config["process_results"]({"answer": label, "image_source": "i"}, [text]) for label, text in cases]
    found = {
        metric["metric"]: metric["aggregation"]([record[metric["metric"]] for record in records])
        for metric in config["metric_list"]
        if callable(metric["aggregation"])
    }
    table = pd.DataFrame([(int(label == "yes"), official(text)) for label, text in cases], columns=["label", "said"])
    cells = table.value_counts()
    hits, misses, false_alarms = cells[1, 1], cells[1, 0], cells[0, 1]
    precision, recall = hits / (hits + false_alarms), hits / (hits + misses)
    assert found == pytest.approx(
        {
            "accuracy": (table.label == table.said).mean(),
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / (precision + recall),
            "yes_ratio": table.said.mean(),
            "unanswered": sum(not text.strip() for _, text in cases),
        },
        rel=0,
        abs=1e-12,
    )


def test_a_missing_result_is_counted_and_no_error() -> None:
    (path,) = resource_folder("tasks").rglob("df_pope_random.yaml")
    process = load_yaml_config(str(path), mode="full")["process_results"]
    assert process({"answer": "no", "image_source": "i"}, [])["unanswered"] == {"counted": True}
