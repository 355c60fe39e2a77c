"""Samples on the terminal as the model gets them, with what is trained on in brackets and in colour."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.training.encoding import IGNORED, Encoded

__all__ = ["SHOWN", "show_samples"]

SHOWN = 3
"""Samples of a stage."""
_STYLES = {"context": "dim", "grounding": "bold magenta", "answer": "bold green"}


def show_samples(samples: Sequence[Encoded], processor: Any, console: Console) -> None:
    """Print `SHOWN` of ``samples``, one with a box first."""
    legend = Text("What is trained on: ").append("[grounding]", _STYLES["grounding"]).append(" and ")
    console.print(legend.append("[answers]", _STYLES["answer"]).append("; the rest is context", _STYLES["context"]))
    ordered = sorted(samples, key=lambda sample: not sample.grounding.any())
    for sample in ordered[:1] + ordered[1:][::-1][: SHOWN - 1]:
        console.print()
        console.print(_masked(sample, processor), soft_wrap=True)


def _masked(encoded: Encoded, processor: Any) -> Text:
    """The sample's text; what is trained on in brackets and in colour, images as a count of their tokens."""
    image_token = int(processor.image_token_id)
    text = Text()
    kinds = [
        "image" if token == image_token else "context" if label == IGNORED else "grounding" if box else "answer"
        for token, label, box in zip(encoded.input_ids, encoded.labels, encoded.grounding, strict=True)
    ]
    start = 0
    for kind, run in groupby(kinds):
        end = start + len(list(run))
        if kind == "image":
            text.append(f"<image: {end - start} tokens>", _STYLES["context"])
        else:
            words = _shown(processor.tokenizer.decode(encoded.input_ids[start:end]))
            text.append(words if kind == "context" else f"[{words}]", _STYLES[kind])
        start = end
    return text


def _shown(words: str) -> str:
    """``words`` with their line breaks, each line as `one_line`."""
    return "\n".join(map(one_line, words.split("\n")))
