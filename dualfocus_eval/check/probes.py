"""The questions that a setup is checked with: about embedded scenes, whose objects are known, or a user's images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import files_below
from dualfocus_eval.common.geometry import Box, Size, overlap
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.method.boxes import FRAMES
from dualfocus_eval.method.images import IMAGE_SUFFIXES, prepare_picture
from dualfocus_eval.method.prompts import WORD_HINT
from dualfocus_eval.method.question import Question

__all__ = ["Probe", "embedded_probes", "folder_probes"]

KIND = "object_color"
"""Of the scenes' questions those that name one object, so that its box is what a model should find."""
RAW = "image"
"""The frame in which the scenes' boxes are known."""
FRAMES_APART = 0.7
"""The IoU of an object's box with itself in another frame is to be lower."""
FOLDER_QUESTION = "What is the largest thing in the image?"


@dataclass(frozen=True)
class Probe:
    """A question about one image, and the box of the object that it names, where that is known."""

    question: Question
    truth: Box | None = None


def embedded_probes(limit: int) -> list[Probe]:
    """At most ``limit`` questions about as many embedded scenes, in which the frames of boxes can be told apart."""
    from pyarrow import parquet

    columns = ["question_id", "image_id", "image", "question", "box"]
    path = resource_folder("tasks") / "scenes" / "data" / "mini.parquet"
    rows = parquet.read_table(path, columns=columns, filters=[("kind", "=", KIND)]).to_pylist()
    return list(islice(_scene_probes(rows), limit))


def _scene_probes(rows: list[dict[str, Any]]) -> Iterator[Probe]:
    asked: set[str] = set()
    for row in rows:
        picture = prepare_picture(row["image"]["bytes"])
        if isinstance(picture, Failure):
            raise RuntimeError(f"embedded scene {row['image_id']}: {picture.message}")
        (width, height), (x1, y1, x2, y2) = picture.pixels.size, row["box"]
        truth = Box(x1 / width, y1 / height, x2 / width, y2 / height)
        if row["image_id"] in asked or not _tells_frames_apart(truth, (width, height)):
            continue
        asked.add(row["image_id"])
        yield Probe(_question(row["question_id"], row["question"], picture), truth)


def _tells_frames_apart(truth: Box, size: Size) -> bool:
    """Whether a box would be misread if it were read in another frame: not in a square image, nor in its centre."""
    return all(name == RAW or overlap(frame.into(truth, size), truth) < FRAMES_APART for name, frame in FRAMES.items())


def folder_probes(folder: Path, limit: int) -> list[Probe]:
    """One question about each of the first ``limit`` images below ``folder``, sorted by name; no object is known.

    An image that cannot be opened becomes its question's failure. Raises ``UserError`` where there is no image.
    """
    if folder.is_file():
        raise UserError(f"--images {folder}: it is a file; name the folder that holds it")
    if not folder.is_dir():
        raise UserError(f"--images {folder}: no such folder; name one that holds images")
    paths = list(islice((path for path in files_below(folder) if path.suffix.lower() in IMAGE_SUFFIXES), limit))
    if not paths:
        raise UserError(
            f"--images {folder}: it holds no image; files end in one of {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    probes = [Probe(_question(str(path), FOLDER_QUESTION, prepare_picture(path))) for path in paths]
    failures = [probe.question.failure.message for probe in probes if probe.question.failure]
    if len(failures) == len(probes):
        raise UserError(f"--images {folder}: none of its images can be opened; the first: {failures[0]}")
    return probes


def _question(key: str, stem: str, picture: Picture | Failure) -> Question:
    question = Question(key=f"check/{key}", prompt=f"{stem}\n{WORD_HINT}", stem=stem, images=())
    if isinstance(picture, Failure):
        return replace(question, failure=picture)
    return replace(question, images=(picture,))
