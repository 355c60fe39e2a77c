"""``dualfocus data gqa-mcq``: from GQA's question file to the multiple-choice set's file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.files import replacing
from dualfocus_eval.datasets.base import Rejected
from dualfocus_eval.datasets.gqa import load_questions
from dualfocus_eval.datasets.gqa_choices.build import build_choices
from dualfocus_eval.datasets.gqa_choices.distractor_model import DistractorModel

__all__ = ["main"]

MOST_CHOICES = 26
"""As many as there are letters."""


def main(argv: Sequence[str]) -> int:
    """Write the set; 0 when every question has its row, 1 when some were left out.

    Raises ``UserError`` for a wrong argument, an unreadable file, and a model's server that cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="dualfocus data gqa-mcq", description="Build a multiple-choice set from GQA's annotations."
    )
    parser.add_argument("--questions", type=Path, required=True, help="GQA's testdev_balanced_questions.json")
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON Lines file to write; `data prepare gqa-mcq` reads it"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of wrong options and positions (default: %(default)s)"
    )
    parser.add_argument(
        "--choices", type=int, default=4, help="maximum number of options per question (default: %(default)s)"
    )
    parser.add_argument("--model", help="ask this model at $OPENAI_BASE_URL for wrong options (default: by rule)")
    options = parser.parse_args(argv)
    questions, out, choices, model = options.questions, options.out, options.choices, options.model
    from rich.progress import Progress

    if not 2 <= choices <= MOST_CHOICES:
        raise UserError(f"--choices {choices}: must be 2 to {MOST_CHOICES}")
    records, faults = load_questions(questions)
    asked = DistractorModel(model, options.seed) if model else None
    with Progress() as progress:
        bar = progress.add_task("questions", total=len(records))
        built = build_choices(records, options.seed, choices, asked, lambda: progress.advance(bar))
    if not built.records:
        raise UserError(f"{questions} has no usable question: expected GQA's testdev_balanced_questions.json")
    _write(out, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in built.records))
    print(one_line(f"{out}: {len(built.records)} questions, {built.short} of them with fewer than {choices} options"))
    if model:
        print(f"{built.fallbacks} questions by rule, because the reply of {model} could not be used")
    left_out = [*(Rejected(f"{questions.name}, {entry.where}", entry.reason) for entry in built.left_out), *faults]
    for entry in left_out:
        print(one_line(f"left out {entry.where}: {entry.reason}"), file=sys.stderr)
    return 1 if left_out else 0


def _write(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
