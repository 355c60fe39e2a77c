"""``dualfocus tasks``: this package's tasks, how many questions each has, and what it needs before it can run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.harness.task_list import list_tasks

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tasks, or the folder that they lie in."""
    parser = argparse.ArgumentParser(
        prog="dualfocus tasks",
        description="List this package's tasks: name, number of questions, and what each needs. Evaluation finds them "
        "by itself. For lmms-eval's own list, pass their folder: lmms-eval tasks list --include-path "
        '"$(dualfocus tasks --path)"',
    )
    parser.add_argument("--path", action="store_true", help="print the folder of the tasks instead")
    if parser.parse_args(argv).path:
        print(resource_folder("tasks"))
        return 0
    entries = list_tasks()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{entry.name:<{width}}  {entry.questions:>6}  {entry.needs}")
    return 0
