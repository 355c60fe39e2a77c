"""Texts scored by lmms-eval's own task objects."""

from __future__ import annotations

from typing import Any

import pytest

from dualfocus_eval.report.scoring import load_tasks, own_scoring


def test_an_answer_that_cannot_be_scored_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, faults = load_tasks(["df_pope_mini_random"])
    task = tasks["df_pope_mini_random"]
    asked = []

    def spoilt(doc: Any, results: list[str]) -> Any:
        asked.append(results)
        raise KeyError("answer")

    score = own_scoring(task)
    assert not faults
    assert score(task.eval_docs_no_media[0], "yes")["yes_ratio"]["score"] == 1.0
    monkeypatch.setattr(task.config, "process_results", spoilt)
    with pytest.raises(KeyError, match="answer"):
        score({}, " yes ")
    assert asked == [["yes"]]
