"""What counts as equal, parted and differing between a server and this process, and what the page says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualfocus_eval.common.tables import to_markdown
from dualfocus_eval.engines.base import Completion, Failure
from dualfocus_eval.traces.record import Trace
from measurements.server_exactness import Agreement, agreement
from measurements.server_exactness_page import PAGE, read_rows, table
from tests.measurements import test_compare_traces
from tests.measurements.test_compare_traces import folder


def read() -> list[Trace]:
    """Three answered questions."""
    return [trace for trace in test_compare_traces.read() if not trace.error]


def compared(tmp_path: Path, changed: Trace, old: Trace | None = None) -> Agreement:
    first, *others = read()
    mine = folder(tmp_path / "old", [old or first, *others]) / "traces"
    return agreement(mine, folder(tmp_path / "new", [changed, *others]) / "traces")


def close(completion: Completion | None, gap: float) -> Completion:
    assert completion
    return replace(completion, gap=gap)


def other(completion: Completion | None) -> Completion:
    assert completion
    return replace(completion, text="other", token_ids=(50, 2))


def test_equal_runs_are_equal_and_differences_of_numbers_are_measured(tmp_path: Path) -> None:
    first = read()[0]
    assert first.micro
    assert first.scores
    moved = replace(first.micro, logprobs=(first.micro.logprobs[0] - 2e-4, *first.micro.logprobs[1:]))
    scores = replace(first.scores, macro=(first.scores.macro[0] + 3e-4, *first.scores.macro[1:]))
    found = compared(tmp_path, replace(first, settings_key="other", micro=moved, scores=scores))
    assert (found.questions, found.equal, found.parted, found.wrong) == (3, 3, [], [])
    assert found.worst_own == pytest.approx(2e-4)
    assert found.worst_scores == pytest.approx(3e-4)
    assert found.holds


@pytest.mark.parametrize(("gap", "parted"), [(5e-4, 1), (2e-3, 0)])
def test_another_answer_is_parted_only_where_the_choice_was_close(gap: float, parted: int, tmp_path: Path) -> None:
    first = read()[0]
    old = replace(first, macro=close(first.macro, gap))
    found = compared(tmp_path, replace(first, macro=other(first.macro), selected="macro"), old)
    assert (found.equal, len(found.parted), len(found.wrong)) == (2, parted, 1 - parted)
    assert "macro answer" in (found.parted + found.wrong)[0]
    assert not found.holds  # one in three is more than 1%


def test_a_close_rule_may_pick_the_other_candidate(tmp_path: Path) -> None:
    first = read()[0]
    assert first.macro
    assert first.micro
    equal = replace(first, macro=replace(first.macro, logprobs=(-0.25, -0.5003)))
    for name, old in (("far", first), ("close", equal)):
        picks = {**old.picks, "own_context": "macro"}
        found = compared(tmp_path / name, replace(old, picks=picks, selected="macro"), old)
        assert (len(found.parted), len(found.wrong)) == ((1, 0) if name == "close" else (0, 1))


@pytest.mark.parametrize("changes", [{"error": Failure("too_long", "")}, {"fallback": "video"}, {"micro": None}])
def test_what_failed_or_has_no_choice_behind_it_is_wrong(changes: dict[str, object], tmp_path: Path) -> None:
    found = compared(tmp_path, replace(read()[0], **changes))
    assert (found.equal, len(found.parted), len(found.wrong)) == (2, 0, 1)


def test_questions_of_one_run_alone_are_wrong(tmp_path: Path) -> None:
    mine = folder(tmp_path / "old", read()) / "traces"
    found = agreement(mine, folder(tmp_path / "new", read()[1:]) / "traces")
    assert found.wrong == ["set/0: answered in one run only"]


def test_the_page_shows_what_was_measured_and_it_is_what_is_promised() -> None:
    rows = read_rows()
    assert to_markdown(table(rows)) in PAGE.read_text(encoding="utf-8")
    assert {row.task for row in rows} == {"df_pope_mini", "df_scenes_mini"}
    for row in rows:
        assert row.questions >= 500
        assert row.equal + row.parted == row.questions
        assert row.parted <= 0.01 * row.questions
        assert max(row.generated, row.scored) <= 1e-3
