"""What the answers cost, from the counts that each batch left in its first trace."""

from __future__ import annotations

import pandas as pd

from tests.integration.recomputed.answers import Answers
from tests.integration.recomputed.cells import Cell, Measured, Table, plain

__all__ = ["cost_tables", "second_pass_share"]

PHASES = ("preprocess", "vision", "prefill", "decode")
WORK = {
    "images encoded": "images_encoded",
    "tokens prefilled": "tokens_prefilled",
    "tokens reused": "tokens_reused",
    "decode steps": "decode_steps",
}
GENERATED = {"tokens of boxes (A1)": "box", "tokens of macro answers": "macro", "tokens of micro answers": "micro"}


def cost_tables(run: Answers) -> dict[str, Table]:
    batches, seconds = _batches(run), _seconds(run)
    asked = int(batches["questions"].sum())
    counts = {name: int(batches[column].sum()) for name, column in WORK.items()}
    counts |= {name: int(run.questions[f"{text}_tokens"].sum()) for name, text in GENERATED.items()}
    reused = 100 * counts["tokens reused"] / (counts["tokens prefilled"] + counts["tokens reused"])
    work: list[list[Cell]] = [[name, count, plain(count / asked)] for name, count in counts.items()]
    spent = {**seconds, "all phases": seconds.sum()}
    time: list[list[Cell]] = [
        [phase, Measured(value, unit="s"), Measured(1000 * value / asked, unit="ms")] for phase, value in spent.items()
    ]
    return {
        "work": Table(["what", "in all", "per question"], work, [f"{asked:,}", f"{reused:.1f}"]),
        "time": Table(["phase", "seconds", "ms per question"], time),
    }


def second_pass_share(run: Answers, task: str) -> float:
    """What the second pass takes of a task's time: its share of the images, and of the tokens for decoding's part.

    Each image and each crop of an image counts once.
    """
    part, seconds = run.tasks[task], _seconds(run)
    two = part[part["micro_text"].notna()]
    crops = {
        (image, *grounding["crop"].values()) for image, grounding in zip(two["image"], two["grounding"], strict=True)
    }
    tokens = part[["macro_tokens", "micro_tokens", "box_tokens"]].sum()
    decoding = seconds["decode"] / seconds.sum()
    images = len(crops) + part["image"].nunique()
    return float((1 - decoding) * len(crops) / images + decoding * tokens["micro_tokens"] / tokens.sum())


def _batches(run: Answers) -> pd.DataFrame:
    return pd.DataFrame(run.questions["cost"].dropna().tolist())


def _seconds(run: Answers) -> pd.Series:
    return pd.DataFrame(_batches(run)["seconds"].tolist())[list(PHASES)].sum()
