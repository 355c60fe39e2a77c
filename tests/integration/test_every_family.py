"""Every architecture end to end: a checkpoint of files on disk answers the embedded benchmarks in two passes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.engines.checkpoint_files import read_json
from dualfocus_eval.families import family_for
from dualfocus_eval.method.prompts import WORD_HINT
from measurements.random_models import ARCHITECTURES
from tests.integration.conftest import Run, read_traces
from tests.random_checkpoints import save_random_checkpoint

TASKS = "df_pope_mini,df_scenes_mini"
LIMIT = 20
TOKENS = 8
WITHOUT_BOXES = ("mllama",)
"""Transformers cannot add tokens to these: the embedding has rows beside the vocabulary's."""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_answers_the_embedded_benchmarks(architecture: str, run_here: Run, tmp_path: Path) -> None:
    boxes = () if architecture in WITHOUT_BOXES else None
    pretrained = save_random_checkpoint(tmp_path / "checkpoint", architecture, boxes=boxes)
    done = run_here(
        "--model_args", f"pretrained={pretrained},device=cpu,batch_size=16,max_box_tokens={TOKENS}",
        "--tasks", TASKS, "--limit", str(LIMIT), "--gen_kwargs", f"max_new_tokens={TOKENS}",
    )  # fmt: skip
    assert done.status == 0, done.output
    questions = 4 * LIMIT
    summary, settings = done.record["summary"], done.record["settings"]
    family = family_for(read_json(pretrained / "config.json")["model_type"], architecture)
    assert len(done.answers) == questions == summary["questions"]
    assert summary["failures"] == {}
    assert summary["grounded"] == questions
    assert (summary["boxes_parsed"] > 0) == (boxes is None)
    assert (summary["both_candidates"] > 0) == (boxes is None)
    assert settings["box_convention"] == family.box_convention.name
    assert (summary["tokens_reused"] > 0) == (family.no_reuse is None)
    output = " ".join(done.output.split())
    if family.no_reuse:
        assert f"no prefix reuse: {family.no_reuse}" in output
    if family.limited_reuse:
        assert f"no prefix reuse by the second pass: {family.limited_reuse}" in output
    traces = {trace["key"]: trace for trace in read_traces(Path(done.record["traces"]))}
    for key, row in scenes(3).items():
        assert traces[key]["macro"]["token_ids"] == plain_answer(pretrained, row)


def scenes(count: int) -> dict[str, Mapping[str, Any]]:
    """The first questions about scenes, by their keys."""
    rows = pq.read_table(resource_folder("tasks") / "scenes" / "data" / "mini.parquet").slice(0, count).to_pylist()
    return {f"df_scenes_mini/{number}": row for number, row in enumerate(rows)}


def plain_answer(folder: Path, row: Mapping[str, Any]) -> list[int]:
    """What transformers alone generates for one question."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": f"{row['question']}\n{WORD_HINT}"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    generated = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    return list(generated[0, inputs["input_ids"].shape[1] :].tolist())
