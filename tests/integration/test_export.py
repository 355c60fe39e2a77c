"""An exported checkpoint under lmms-eval's own LLaVA, which passes plain strings to the chat template."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from dualfocus_eval.families import FAMILIES
from dualfocus_eval.recipe import Recipe
from dualfocus_eval.training.export import export
from tests.integration.conftest import Run


def test_llava_hf_answers_as_our_macro_pathway(run_here: Run, checkpoint: Path, tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(checkpoint)
    processor.chat_template = FAMILIES["llava"].training_template
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    exported = export(Recipe(path=Path("mine.yaml")), model, processor, tmp_path / "exported", [], torch.float32)
    shared = ["--tasks", "df_pope_mini_random", "--limit", "6", "--force_simple"]
    theirs = run_here(
        "--model", "llava_hf", "--model_args",
        f"pretrained={exported},dtype=float32,device=cpu,device_map=cpu", *shared, output="theirs",
    )  # fmt: skip
    ours = run_here(
        "--model_args",
        f"pretrained={exported},dtype=float32,device=cpu,strategy=macro", *shared, output="ours",
    )  # fmt: skip
    assert len(theirs.answers) == 6, theirs.output
    assert len(set(theirs.answers.values())) > 1
    assert ours.answers == theirs.answers
