"""What the stem rule leaves of the prompts of lmms-eval's own tasks, rendered from made-up rows of their columns.

``python -m measurements.stems --write`` walks every task of the installed lmms-eval that shows one image per question
and writes docs/stems.md. Nothing is loaded from the network: a made-up row has every column that a task's function
reads.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dualfocus_eval.common.tables import fill_page
from dualfocus_eval.method.marks import IMAGE_MARK
from dualfocus_eval.method.stems import POST_PROMPTS, stem_of
from measurements.stems_rows import IMAGE_STYLES, OPTION_STYLES, QUESTION, made_up_row
from measurements.stems_tasks import TaskSource, read_tasks, tasks_folder, time_limit

PAGE = Path("docs/stems.md")
SHOWN = 110
"""Characters of what is left beside the question."""


class Finding(NamedTuple):
    """What the rule makes of one task's prompt."""

    folder: str
    task: str
    verdict: str
    """``clean``, ``left: ...``, ``no question``, ``not one image`` or ``no prompt: ...``."""


def judge(task: TaskSource) -> str:
    """The verdict over one task."""
    shown = [_tried(lambda image=image: _images(task, image)) for image in IMAGE_STYLES]
    images = next((style for style, found in zip(IMAGE_STYLES, shown, strict=True) if found == "one"), None)
    if images is None:
        return next((found for found in shown if found == "not one image"), shown[0])
    written = [_tried(lambda options=options: _question(task, images, options)) for options in OPTION_STYLES]
    return min(written, key=lambda verdict: ("clean", "left", "no question", "no prompt").index(verdict.split(":")[0]))


def _tried(ask: Callable[[], str]) -> str:
    try:
        with time_limit(180):
            return ask()
    except (Exception, SystemExit) as error:
        return f"no prompt: {type(error).__name__}"


def _images(task: TaskSource, images: str) -> str:
    visuals = task.visuals(made_up_row(images, "list"))
    one = isinstance(visuals, list | tuple) and len(visuals) == 1 and isinstance(visuals[0], Image.Image)
    return "one" if one else "not one image"


def _question(task: TaskSource, images: str, options: str) -> str:
    prompt = task.prompt(made_up_row(images, options))
    if not isinstance(prompt, str) or QUESTION.rstrip("?").lower() not in prompt.lower():
        return "no question"
    bare = prompt.replace(IMAGE_MARK, "")
    stem = stem_of(bare, (*POST_PROMPTS, *task.post_prompts), task.pre_prompts).stem
    left = " ".join(re.sub(re.escape(QUESTION), "…", stem, flags=re.IGNORECASE).split())
    # Two columns that both got the question stand one after the other.
    return f"left: {left[:SHOWN]}" if left.strip(" …") or not left else "clean"


def findings(folders: list[str] | None = None) -> Iterator[Finding]:
    """One per task of ``folders``, of all without. Tasks with equal functions and wording are judged once."""
    judged: dict[Any, str] = {}
    for task in read_tasks(folders):
        if task.key not in judged:
            judged[task.key] = judge(task)
        yield Finding(task.folder, task.name, judged[task.key])


def table(found: list[Finding]) -> list[str]:
    """Markdown lines, one per folder and verdict, of the tasks with one image whose prompts could be rendered."""
    groups: dict[tuple[str, str], list[str]] = {}
    for finding in found:
        if finding.verdict.startswith(("clean", "left", "no question")):
            groups.setdefault((finding.folder, finding.verdict), []).append(finding.task)
    lines = ["| folder | tasks | Q1 holds |", "|---|---|---|"]
    for (folder, verdict), names in sorted(groups.items()):
        shown = ", ".join(f"`{name}`" for name in sorted(names)[:2])
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        lines.append(f"| {folder} | {shown}{more} | {_cell(verdict)} |")
    return lines


def _cell(verdict: str) -> str:
    kind, _, left = verdict.partition(": ")
    if kind == "no question":
        return "a prompt without a question column (captions, boxes)"
    return "the question" if kind == "clean" else "`{}`".format(left.replace("|", "\\|").replace("`", "'"))


def summary(found: list[Finding]) -> str:
    """What was judged, and the folders of which tasks were not rendered."""
    counts: Mapping[str, int] = Counter(finding.verdict.split(":")[0] for finding in found)
    missing = Counter(finding.folder for finding in found if finding.verdict.startswith("no prompt"))
    folders = ", ".join(f"{folder} ({number})" for folder, number in sorted(missing.items()))
    return (
        f"Of {counts['clean'] + counts['left']:,} tasks that ask a question about one image, {counts['clean']:,} leave "
        f"only the question in Q1, and {counts['left']:,} leave more. {counts['no question']:,} have prompts without a "
        f"question column. {counts['not one image']:,} show no image, several, or a video. "
        f"{counts['no prompt']:,} were not rendered: {folders}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"fill {PAGE}")
    parser.add_argument("folders", nargs="*", help="folders of lmms-eval's tasks; all without")
    chosen = parser.parse_args()
    page = PAGE.absolute()
    with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        _leave_no_trace(folder)
        found = list(findings(chosen.folders or None))
    lines = [summary(found), "", *table(found)]
    print("\n".join(lines))
    if chosen.write:
        fill_page(page, {"tasks": "\n".join(["", *lines, ""])})
    return 0


def _leave_no_trace(folder: str) -> None:
    """Tasks' modules download, look into caches and make folders when they are imported: there is nothing for them."""
    os.chdir(folder)
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HOME=folder)
    os.environ.update(OPENAI_API_KEY="none", AZURE_API_KEY="none")


if __name__ == "__main__":
    print(f"tasks of {tasks_folder()}", file=sys.stderr)
    sys.exit(main())
