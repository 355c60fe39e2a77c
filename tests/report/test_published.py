"""The run's own rows beside the paper's, where only some tasks are traced."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualfocus_eval.report.sections.published import main_section
from dualfocus_eval.tiny.effect import SCENES
from tests.analysis.runs import answered, read_with, scene, write_run

SEED = "df_seed_img_mini"
DOC = {"answer": "A", "data_id": "1", "question_type_id": 1, **{f"choice_{letter}": letter * 3 for letter in "abcd"}}


@pytest.mark.parametrize(
    ("untraced", "rows", "partial"),
    [
        ([], ["macro", "micro", "selected"], False),
        ([f"{SEED}/0"], ["macro", "micro", "selected"], True),
        ([f"{SEED}/0", f"{SEED}/1"], ["selected"], False),
    ],
)
def test_own_rows_are_of_traced_questions_and_say_so(
    tmp_path: Path, untraced: list[str], rows: list[str], partial: bool
) -> None:
    two = [answered(SEED, DOC, "A", "B", doc_id=number) for number in range(2)]
    answers = [*two, answered(SCENES, scene(1, "red"), "red", "blue")]
    folder = write_run(tmp_path / "run", answers)
    traces = folder / "traces" / "traces.rank0000.jsonl"
    lines = traces.read_text().splitlines(keepends=True)
    traces.write_text("".join(line for line in lines if not any(f'"{key}"' in line for key in untraced)))

    table = main_section(read_with(folder, answers)).tables["main"]

    assert [row[0] for row in table.sections[1]] == [f"run: {name}" for name in rows]
    assert all(str(row[3]) for row in table.sections[1])
    assert any("have no trace" in note for note in table.notes) == partial
