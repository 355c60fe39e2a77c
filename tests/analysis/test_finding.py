"""Which run of a folder is read, whatever its files are called."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.analysis.finding import newest_results, only_results
from dualfocus_eval.common.errors import UserError


def write(path: Path, date: Any, zone: str | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    content = {"results": {}, "date": date, "config": {"resolved_cli_args": {"timezone": zone} if zone else {}}}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (("20260101_120000", None), ("20260101_120001", None)),
        (("20260101_200000", None), ("20260101_121000", "UTC")),  # 12:00 and 12:10 UTC
        (("20260101_120000", "America/New_York"), ("20260102_015900", "Asia/Tokyo")),  # 17:00, 16:59: see below
    ],
)
def test_the_newest_is_the_newest_by_its_own_record(
    tmp_path: Path, older: tuple[str, str | None], newer: tuple[str, str | None]
) -> None:
    if newer[1] == "Asia/Tokyo":
        older, newer = newer, older
    first, second = write(tmp_path / "b" / "9_results.json", *older), write(tmp_path / "a" / "1_results.json", *newer)
    found, (fault,) = newest_results(tmp_path)
    assert found == second
    assert fault.harmless
    assert re.match(rf"1 older run is in .*read is the newest, {re.escape(str(second))}, of 2026-01-01", str(fault))
    assert newest_results(first) == (first, [])


@pytest.mark.parametrize("date", ["20260101_120000", "29990101_120000", None, "yesterday", 5])
def test_where_dates_do_not_say_which_is_the_newest_both_are_named(tmp_path: Path, date: Any) -> None:
    """Equal, in the future (a clock was wrong), or no dates."""
    paths = [write(tmp_path / f"{name}_results.json", date) for name in "12"]
    with pytest.raises(UserError, match="do not say which is the newest") as raised:
        newest_results(tmp_path)
    assert all(str(path) in str(raised.value) for path in paths)


@pytest.mark.parametrize("content", ["", "[]", '{"results": {}}', '{"date": "20260101_120000", "config": []}'])
def test_a_run_without_a_date_may_be_the_newest(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "1_results.json", "20260101_120000")
    (tmp_path / "2_results.json").write_text(content)
    found, (fault,) = newest_results(tmp_path)
    assert (found, fault.harmless) == (path, False)
    assert "do not say when they were made" in str(fault)


def test_a_verdict_is_about_one_run(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "1_results.json", "20260101_120000", "UTC")
    assert only_results(tmp_path) == only_results(path) == path
    for number in range(2, 9):
        write(tmp_path / f"{number}_results.json", "20260101_120000", "UTC")
    with pytest.raises(UserError, match=r"holds 8 runs.*2_results\.json \(2026-01-01 12:00:00 UTC\), .*\.\.\.$"):
        only_results(tmp_path)
    for choose in (only_results, newest_results):
        with pytest.raises(UserError, match="does not exist"):
            choose(tmp_path / "none")
