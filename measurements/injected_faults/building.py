"""Faults of ``dualfocus data``, ``train`` and ``convert``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder
from measurements.injected_faults.cases import (
    Broken,
    Case,
    Command,
    Sound,
    changed_json,
    changed_weights,
    copied,
    cut,
    disk_of,
    fifo,
)

__all__ = ["cases"]

EMBEDDED = resource_folder("models") / EMBEDDED_CHECKPOINT
"""A base to train: its chat template marks the answers."""


def cases() -> Iterator[Case]:
    """Data sets, training, conversion."""
    yield from _data()
    yield from _training()
    yield from _conversion()


def _data() -> Iterator[Case]:
    for fault, status, said, spoil in _RELEASES:
        yield Case("data prepare", fault, status, said, _prepared(spoil))
    yield Case(
        "data prepare",
        "unknown benchmark",
        2,
        "nosuch",
        lambda f, s: Command(["data", "prepare", "nosuch", "--source", ".", "--out", "root"]),
    )
    yield Case("data prepare", "the disk is full", 2, "root", _prepared(lambda source: None, before=disk_of(100)))
    yield Case(
        "data verify",
        "a prepared table was modified",
        1,
        "random",
        _verified(lambda root: cut(root / "pope" / "random.parquet")),
    )
    yield Case(
        "data verify", "nothing is prepared", 2, "prepare", lambda f, s: Command(["data", "verify", "--out", "root"])
    )
    yield Case(
        "data vg",
        "no files there",
        2,
        "question_answers.json",
        lambda f, s: Command(["data", "vg", "--source", ".", "--out", "vg"]),
    )
    yield Case("data vg", "a file is truncated", 1, "question_answers.json", _curated)


def _release(folder: Path) -> Path:
    """Four questions of POPE in its official layout, with images."""
    source = folder / "source"
    (source / "val2014").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (40, 30), (90 * number, 80, 30)).save(source / "val2014" / f"COCO_{number}.jpg")
    rows = [
        {
            "question_id": number,
            "image": f"COCO_{number % 2}.jpg",
            "text": f"Is there a thing {number}?",
            "label": "yes",
        }
        for number in range(1, 5)
    ]
    for split in ("random", "popular", "adversarial"):
        (source / f"coco_pope_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return source


def _prepared(spoil: Callable[[Path], object], **how: Any) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        spoil(_release(folder))
        return Command(["data", "prepare", "pope", "--source", "source", "--out", "root"], **how)

    return broken


def _row(**changes: Any) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        path = source / "coco_pope_random.json"
        first, *others = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(first) | changes), *others]) + "\n")

    return spoil


def _text(content: bytes) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        with (source / "coco_pope_random.json").open("ab") as file:
            file.write(content)

    return spoil


def _image(content: bytes) -> Callable[[Path], None]:
    return lambda source: (source / "val2014" / "COCO_0.jpg").write_bytes(content)  # type: ignore[return-value]


def _piped(source: Path) -> None:
    image = source / "val2014" / "COCO_0.jpg"
    image.unlink()
    fifo(image)


_RELEASES: tuple[tuple[str, int, str, Callable[[Path], Any]], ...] = (
    ("no official files", 2, "source", lambda source: shutil.rmtree(source)),
    ("a line is not JSON", 1, "coco_pope_random.json", _text(b"{broken\n")),
    ("a question is null", 1, "coco_pope_random.json", _row(text=None)),
    ("a question is a list", 1, "coco_pope_random.json", _row(text=["a"])),
    ("an answer is true", 1, "coco_pope_random.json", _row(label=True)),
    ("an image is missing", 1, "COCO_0", lambda source: (source / "val2014" / "COCO_0.jpg").unlink()),
    ("an image is damaged", 1, "COCO_0", _image(b"\xff\xd8\xff no picture")),
    ("an image is PostScript", 1, "COCO_0", _image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")),
    ("an image is a named pipe", 1, "COCO_0", _piped),
)


def _verified(spoil: Callable[[Path], object]) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        from dualfocus_eval.cli.main import main

        main(["data", "prepare", "pope", "--source", str(_release(folder)), "--out", str(folder / "root")])
        spoil(folder / "root")
        return Command(["data", "verify", "--out", "root"])

    return broken


def _curated(folder: Path, sound: Sound) -> Command:
    from dualfocus_eval.cli.main import main

    main(["data", "scenes", "--out", str(folder / "vg"), "--count", "4"])
    cut(folder / "vg" / "question_answers.json", 0.7)
    return Command(["data", "vg", "--source", "vg", "--out", "samples", "--recipe", "dualfocus-tiny"])


def _training() -> Iterator[Case]:
    for fault, status, said, spoil in _SAMPLES:
        yield Case("train", fault, status, said, _trained(spoil))
    for fault, said, stage in _STAGES:
        yield Case("train", fault, 2, said, _trained(lambda data: None, stage))
    yield Case("train", "unknown recipe", 2, "nosuch", lambda f, s: Command(["train", "nosuch"]))
    yield Case("train", "unknown key in the recipe", 2, "trian", _unknown_key)
    yield Case("train", "the base's weights are truncated", 2, "model.safetensors", _cut_base)
    yield Case("train", "--out is a file", 2, "out", _out_is_a_file)


def _trained(spoil: Callable[[Path], object], stage: dict[str, Any] | None = None, base: Path | None = None) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        (folder / "data").mkdir()
        Image.new("RGB", (40, 40), "red").save(folder / "data" / "a.png")
        (folder / "data" / "d.json").write_text(json.dumps([_sample(word) for word in ("red", "blue", "green", "red")]))
        spoil(folder / "data")
        _recipe(folder, base or EMBEDDED, stage or {})
        return Command(["train", "r.yaml", "--data", "data", "--out", "out"])

    return broken


def _sample(answer: Any, question: Any = "<image>\nWhat colour?") -> dict[str, Any]:
    return {"image": "a.png", "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


def _recipe(folder: Path, base: Path, stage: dict[str, Any]) -> None:
    settings = {
        "name": "f",
        "objective": "instructions",
        "data": [{"file": "d.json", "images": "."}],
        "batch_size": 2,
        "micro_batch_size": 2,
        "learning_rate": 1e-4,
        "freeze": ["vision_tower"],
        "precision": "fp32",
        "gradient_checkpointing": False,
    }
    (folder / "r.yaml").write_text(yaml.safe_dump({"train": {"base": str(base), "stages": [settings | stage]}}))


def _first(sample: Any) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        rows = json.loads((data / "d.json").read_text())
        (data / "d.json").write_text(json.dumps([sample, *rows]))

    return spoil


def _two_lists(data: Path) -> None:
    content = (data / "d.json").read_text()
    (data / "d.json").write_text(content + content)


def _pipe(data: Path) -> None:
    (data / "d.json").unlink()
    fifo(data / "d.json")


_SAMPLES: tuple[tuple[str, int, str, Callable[[Path], Any]], ...] = (
    ("no data file", 2, "d.json", lambda data: (data / "d.json").unlink()),
    ("the data file is not JSON", 2, "d.json", lambda data: (data / "d.json").write_text("no JSON")),
    ("the data file is a named pipe", 2, "d.json", _pipe),
    ("a sample's image is missing", 1, "1", _first(_sample("red") | {"image": "b.png"})),
    ("a sample's answer is null", 1, "1", _first(_sample(None))),
    ("a sample's question is a list", 1, "1", _first(_sample("red", ["what"]))),
    ("a sample is not an object", 1, "1", _first("text")),
    ("two lists in one file", 1, "d.json", _two_lists),
)
_STAGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("the loss is no longer finite", "learning_rate", {"learning_rate": 1e30}),
    ("unknown objective", "objective", {"objective": "nosuch"}),
    ("a batch size of 0", "batch_size", {"batch_size": 0}),
)


def _unknown_key(folder: Path, sound: Sound) -> Command:
    (folder / "r.yaml").write_text("trian: {}\n")
    return Command(["train", "r.yaml"])


def _cut_base(folder: Path, sound: Sound) -> Command:
    base = copied(EMBEDDED, folder)
    cut(base / "model.safetensors")
    return _trained(lambda data: None, base=base)(folder, sound)


def _out_is_a_file(folder: Path, sound: Sound) -> Command:
    (folder / "out").write_text("in the way")
    return _trained(lambda data: None)(folder, sound)


def _conversion() -> Iterator[Case]:
    for fault, said, spoil in _ORIGINALS:
        yield Case("convert", fault, 2, said, _converted(spoil))
    yield Case("convert", "the output folder is not empty", 2, "out", _filled_output)


def _converted(spoil: Callable[[Path], object]) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        spoil(copied(sound.original, folder))
        return Command(["convert", "llava", sound.original.name, "out", "--vision-tower", sound.original / "tower"])

    return broken


def _shard(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda source: changed_weights(sorted(source.glob("*.safetensors"))[0], change)


def _nan(weights: dict[str, torch.Tensor]) -> None:
    next(weight for weight in weights.values() if weight.is_floating_point()).view(-1)[0] = float("nan")


_ORIGINALS: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
    ("no such folder", "original", lambda source: shutil.rmtree(source)),
    ("config.json is missing", "config.json", lambda source: (source / "config.json").unlink()),
    (
        "config.json has text instead of a number",
        "hidden_size",
        lambda source: changed_json(source / "config.json", lambda c: c.update(hidden_size="wide")),
    ),
    ("a weight file is missing", "safetensors", lambda source: sorted(source.glob("*.safetensors"))[0].unlink()),
    ("a weight file is truncated", "safetensors", lambda source: cut(sorted(source.glob("*.safetensors"))[0])),
    ("a weight is missing", "embed_tokens", _shard(lambda w: w.pop("model.embed_tokens.weight"))),
    ("a weight is NaN", "finite", _shard(_nan)),
    ("tokenizer.json is truncated", "tokenizer", lambda source: cut(source / "tokenizer.json")),
)


def _filled_output(folder: Path, sound: Sound) -> Command:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")
    return _converted(lambda source: None)(folder, sound)
