"""A handful of training samples in LLaVA's format, with images, and random checkpoints to train on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from dualfocus_eval.training.records import Record, read_record
from measurements.random_models import build

Q1 = "Please provide the bounding box coordinate of the region this question asks: is there a red cup?"
Q2 = "Please combine the information from these two images and answer this question: is there a red cup?"
BOX = "[0.25, 0.50, 0.75, 1.00]"


def conversation(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


def two_rounds(answer: str = "yes") -> dict[str, Any]:
    turns = conversation(f"<image>\n{Q1}", BOX, f"<image>\n{Q2}", answer)
    return {"image": "0.png", "sub_image": "crops/0.png", "conversations": turns}


def plain(answer: str = "blue") -> dict[str, Any]:
    return {"image": "1.png", "conversations": conversation("<image>\nwhat colour has the ball", answer)}


def text_only(answer: str = "two") -> dict[str, Any]:
    return {"conversations": conversation("how many people", answer)}


def record(entry: Mapping[str, Any]) -> Record:
    found = read_record("here", entry)
    assert isinstance(found, Record), found
    return found


def write_data(folder: Path, count: int = 20) -> list[dict[str, Any]]:
    """``train.json`` with ``count`` samples of all three kinds, and its images below ``images``."""
    (folder / "images").mkdir(parents=True)
    (folder / "crops").mkdir()
    noise = np.random.default_rng(0)
    for path, size in (("images/0.png", (40, 30)), ("images/1.png", (30, 50)), ("crops/0.png", (20, 20))):
        Image.fromarray(noise.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / path)
    words = ("yes", "no", "blue green", "red", "a small cup")
    kinds = (two_rounds, plain, text_only)
    rows = [kinds[number % 3](words[number % 5]) for number in range(count)]
    (folder / "train.json").write_text(json.dumps(rows))
    return rows


def save_base(folder: Path, architecture: str) -> Path:
    model, processor = build(architecture)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_recipe(path: Path, base: Path, **stage: Any) -> Path:
    """A recipe of one stage; 20 samples are five steps."""
    settings = {
        "name": "tune",
        "objective": "instructions",
        "data": [{"file": "train.json", "images": "images"}],
        "batch_size": 4,
        "micro_batch_size": 2,
        "learning_rate": 0.001,
        "freeze": ["vision_tower"],
        "precision": "fp32",
        "gradient_checkpointing": False,
    }
    path.write_text(yaml.safe_dump({"train": {"base": str(base), "seed": 3, "stages": [settings | stage]}}))
    return path
