"""Settings against tasks: what could not take effect is refused before anything is asked."""

from __future__ import annotations

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.fitting import refuse_tasks_without_boxes
from dualfocus_eval.method.settings import Settings


def test_the_data_set_s_boxes_need_a_column() -> None:
    boxes = {"scenes": "box", "pope": None, "gqa": None}
    with pytest.raises(
        UserError, match=r"of which gqa, pope names no column: leave it out, add the column to its YAML"
    ):
        refuse_tasks_without_boxes(Settings(grounding="truth"), boxes)
    refuse_tasks_without_boxes(Settings(grounding="truth"), {"scenes": "box"})
    refuse_tasks_without_boxes(Settings(grounding="truth", strategy="macro"), boxes)
    refuse_tasks_without_boxes(Settings(), boxes)


def test_the_data_set_s_boxes_are_refused_where_the_documents_lack_the_column() -> None:
    columns = {"scenes": {"image", "box"}, "vstar": {"image", "label"}, "unknown": set[str]()}
    with pytest.raises(UserError, match=r"the documents of vstar have no column 'box': prepare the data set"):
        refuse_tasks_without_boxes(Settings(grounding="truth"), dict.fromkeys(columns, "box"), columns)
    refuse_tasks_without_boxes(Settings(grounding="truth"), dict.fromkeys(("scenes", "unknown"), "box"), {
        name: columns[name] for name in ("scenes", "unknown")
    })  # fmt: skip
    refuse_tasks_without_boxes(Settings(), dict.fromkeys(columns, "box"), columns)
