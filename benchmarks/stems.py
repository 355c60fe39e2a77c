"""What the stem rule leaves of the prompts of lmms-eval's own tasks, rendered from made-up rows of their columns.

``python -m benchmarks.stems --write`` walks every task of the installed lmms-eval that shows one image per question and
writes docs/stems.md. Nothing is loaded from the network: a row gives each column that a task's function reads a value by
the column's name.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

from benchmarks.stems_rows import OPTION_STYLES, QUESTION, made_up_row
from benchmarks.stems_tasks import TaskSource, read_tasks, tasks_folder, time_limit
from dualfocus_eval.method.question import POST_PROMPTS, stem_of

PAGE = Path("docs/stems.md")
MARK = "<!-- tasks -->"
SHOWN = 110
"""Characters of what is left beside the question."""


class Finding(NamedTuple):
    """What the rule makes of one task's prompt."""

    folder: str
    task: str
    verdict: str
    """``clean``, ``left: ...``, ``not one image`` or ``no prompt: ...``."""


def judge(task: TaskSource) -> Finding:
    """The verdict over one task: the best of all styles in which its columns may hold options."""
    verdicts = []
    for style in OPTION_STYLES:
        try:
            with time_limit(60):
                verdicts.append(_verdict(task, style))
        except (Exception, SystemExit) as error:
            verdicts.append(f"no prompt: {type(error).__name__}")
    order = ("clean", "left", "not one image", "no prompt")
    return Finding(task.folder, task.name, min(verdicts, key=lambda verdict: order.index(verdict.split(":")[0])))


def _verdict(task: TaskSource, style: str) -> str:
    visuals = task.visuals(made_up_row(style))
    if not isinstance(visuals, list | tuple) or len(visuals) != 1 or not hasattr(visuals[0], "size"):
        return "not one image"
    prompt = task.prompt(made_up_row(style))
    if not isinstance(prompt, str) or QUESTION.rstrip("?").lower() not in prompt.lower():
        return "no prompt: the question is in no column that it reads"
    stem = stem_of(prompt, (*POST_PROMPTS, *task.post_prompts), task.pre_prompts).stem
    if stem.lower() == QUESTION.lower():
        return "clean"
    return f"left: {' '.join(stem.replace(QUESTION, '…').split())[:SHOWN]}"


def findings(folders: list[str] | None = None) -> Iterator[Finding]:
    """One per task of ``folders``, of all without. Tasks with equal functions and wording are judged once."""
    judged: dict[Any, str] = {}
    for task in read_tasks(folders):
        if task.key not in judged:
            judged[task.key] = judge(task).verdict
        yield Finding(task.folder, task.name, judged[task.key])


def table(found: list[Finding]) -> list[str]:
    """Markdown lines, one per folder and verdict."""
    groups: dict[tuple[str, str], list[str]] = {}
    for finding in found:
        groups.setdefault((finding.folder, finding.verdict), []).append(finding.task)
    lines = []
    for (folder, verdict), names in sorted(groups.items()):
        if verdict == "not one image":
            continue
        shown = ", ".join(f"`{name}`" for name in sorted(names)[:2])
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        lines.append(f"| {folder} | {shown}{more} | {_cell(verdict)} |")
    return lines


def _cell(verdict: str) -> str:
    kind, _, rest = verdict.partition(": ")
    plain = rest.replace("|", "\\|").replace("`", "'")
    return {"left": f"`{plain}`", "no prompt": f"not rendered ({plain})"}.get(kind, kind)


def totals(found: list[Finding]) -> str:
    """One sentence."""
    counts: Mapping[str, int] = Counter(finding.verdict.split(":")[0] for finding in found)
    asked = counts["clean"] + counts["left"]
    return (
        f"Of {asked:,} tasks with one image per question whose prompts could be rendered, {counts['clean']:,} leave the "
        f"bare question. {counts['no prompt']:,} could not be rendered from made-up rows; "
        f"{counts['not one image']:,} show no image, several, or a video."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"fill {PAGE}")
    parser.add_argument("folders", nargs="*", help="folders of lmms-eval's tasks; all without")
    chosen = parser.parse_args()
    found = list(findings(chosen.folders or None))
    lines = [totals(found), "", "| folder | tasks | Q1 holds |", "|---|---|---|", *table(found)]
    print("\n".join(lines))
    if chosen.write:
        head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
        PAGE.write_text("\n".join([f"{head}{MARK}", "", *lines, ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    print(f"tasks of {tasks_folder()}", file=sys.stderr)
    sys.exit(main())
