"""Which results file of a folder is meant. File names decide nothing: clocks and time zones change between runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from dualfocus_eval.analysis.runs import Fault
from dualfocus_eval.common.errors import UserError

__all__ = ["newest_results", "only_results"]

_TIME_ZONE = "Asia/Singapore"
"""In which lmms-eval writes a run's date unless it is told another (``--timezone``)."""
_LISTED = 5
_SLACK = timedelta(minutes=5)
"""So far two machines' clocks may be apart."""


def only_results(place: Path) -> Path:
    """The results file of the only run in the folder ``place``, or ``place`` itself where it is a file.

    Raises ``UserError`` where there is none, or where there are several: a verdict is about the run that is named.
    """
    found = _results_files(place)
    if len(found) > 1:
        dated = [(path, _made(path)) for path in found]
        raise UserError(
            f"{place} holds {len(found)} runs, and a verdict is about one: name its results file, one of {_list(dated)}"
        )
    return found[0]


def newest_results(place: Path) -> tuple[Path, list[Fault]]:
    """The results file of the newest run in the folder ``place`` by what the files say of their time, or ``place``
    itself where it is a file; and what the reader should know of the others.

    Raises ``UserError`` where there is none, or where the files do not say which is the newest.
    """
    found = _results_files(place)
    if len(found) == 1:
        return found[0], []
    dated = sorted(((path, made) for path in found if (made := _made(path))), key=lambda one: one[1])
    if len(dated) < 1 or dated[-1][1] > datetime.now(UTC) + _SLACK or dated[-1][1] in [made for _, made in dated[:-1]]:
        listed = _list([(path, _made(path)) for path in found])
        raise UserError(
            f"{place} holds {len(found)} runs, and their dates do not say which is the newest: name its results file, "
            f"one of {listed}"
        )
    newest, made = dated[-1]
    others = "older run is" if len(dated) == 2 else "older runs are"
    older = f"{others} in {place} too; read is the newest, {newest}, of {made:%Y-%m-%d %H:%M:%S} UTC"
    undated = f"results files in {place} do not say when they were made, so one may be newer than {newest}"
    faults = [Fault(len(dated) - 1, older, harmless=True), Fault(len(found) - len(dated), undated)]
    return newest, [fault for fault in faults if fault.count]


def _results_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UserError(f"{place} does not exist; name the --output_path of a run, or its *_results.json")
    found = sorted(place.rglob("*_results.json"))
    if not found:
        raise UserError(f"{place} holds no results of lmms-eval (*_results.json): the run did not end, or is elsewhere")
    return found


def _made(path: Path) -> datetime | None:
    """When the run began, by its own record; None where the file does not say."""
    try:
        results = json.loads(path.read_text(encoding="utf-8-sig"))
        zone = results.get("config", {}).get("resolved_cli_args", {}).get("timezone") or _TIME_ZONE
        return datetime.strptime(results["date"], "%Y%m%d_%H%M%S").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def _list(dated: Sequence[tuple[Path, datetime | None]]) -> str:
    shown = [f"{path} ({f'{made:%Y-%m-%d %H:%M:%S} UTC' if made else 'no date'})" for path, made in dated[:_LISTED]]
    return ", ".join(shown) + (", ..." if len(dated) > _LISTED else "")
