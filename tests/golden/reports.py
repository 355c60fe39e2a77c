"""The reports of three scripted runs: of both pathways, and of each alone."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dualfocus_eval.cli.report import main
from tests.golden.scripted_run import answer_by_script
from tests.golden.tables import GOLDEN, read_tables, write_golden

__all__ = ["ALONE", "REPORTS", "make_reports"]

ALONE = "df_scenes_mini,df_pope_mini_random"
RUNS = {
    "full": ("df_mini", "selection=own_context,score_all=true"),
    "macro": (ALONE, "strategy=macro"),
    "micro": (ALONE, "strategy=micro"),
}
REPORTS = {"full": "1-full", "macro": "2-macro", "micro": "3-micro", "overview": "."}
"""The folder of each report."""


def make_reports(folder: Path) -> Path:
    """Answer all runs below ``folder`` and report on them; the report's folder."""
    for name, (tasks, settings) in RUNS.items():
        answer_by_script(folder / name, tasks, settings)
    assert main([*(str(folder / name) for name in RUNS), "--out", str(folder / "report")]) == 0
    return folder / "report"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        report = make_reports(Path(place))
        write_golden({name: read_tables(report / where) for name, where in REPORTS.items()})
    print(f"written: {GOLDEN}", file=sys.stderr)
