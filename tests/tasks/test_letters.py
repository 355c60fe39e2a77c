"""The scorers of multiple choice read letters as selection does: over the same cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.utils import load_yaml_config

from dualfocus_eval.common.resources import resource_folder

CASES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "method/letters.json").read_text("utf-8"))
TEXTS = ("a cup", "a ball", "a lamp", "a hat")
DOCUMENT: dict[str, Any] = {
    "image_id": "n1", "options": list(TEXTS), "question_type": "query", "data_id": "n1", "question_type_id": 1,
    "choice_a": "a cup", "choice_b": "a ball", "choice_c": "a lamp", "choice_d": "a hat",
    **dict(zip("ABCD", TEXTS, strict=True)), "category": "Perception/Monitoring", "question_id": "1", "index": "1",
    "question_number": 1, "cycle": 0, "cycle_category": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "answers"),
    [
        ("seed/df_seed_img", "ABCD"), ("gqa/df_gqa_mcq", TEXTS), ("vstar/df_vstar", "ABCD"),
        ("hrbench/df_hrbench_4k", "ABCD"), ("mme_realworld/df_mme_realworld_lite", "ABCD"),
    ],
)  # fmt: skip
def test_the_scorers_read_what_selection_reads(task: str, answers: str | tuple[str, ...]) -> None:
    process_results = load_yaml_config(str(resource_folder("tasks") / f"{task}.yaml"), mode="full")["process_results"]
    right = [DOCUMENT | {"answer": answer, "label": answer} for answer in answers]
    scores = [process_results(right[index], [text])["score"] for text, index in CASES["read"]]
    assert scores == [1.0] * len(CASES["read"])
    for text in CASES["unread"]:
        record = process_results(right[1], [text])
        assert (record["score"], record["unread"]["counted"]) == (0.0, True), text
