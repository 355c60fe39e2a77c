"""A kept question as a training sample: two rounds over the image and its sub-region (format (1), section 3.2)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from dualfocus_eval.curation.filtering import Kept
from dualfocus_eval.curation.pictures import crop_path
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.marks import IMAGE_MARK
from dualfocus_eval.method.prompts import grounding_prompt, micro_prompt
from dualfocus_eval.method.question import Question

__all__ = ["Sample", "sample_of"]

_to_json = json.JSONEncoder(ensure_ascii=False).encode


class Sample(NamedTuple):
    """One row of the output."""

    qa_id: int
    image_id: int
    box_from: str
    line: str
    """The JSON file's entry."""
    columns: tuple[Any, ...]
    """Its values, as the parquet file has them after the two ids."""


def sample_of(kept: Kept, image_id: int, image: str, size: tuple[int, int], prompt_set: str) -> Sample:
    """The sample, with paths below the image folder (``image``) and below the output folder (``sub_image``).

    A1 is the box with two decimals; ``box`` has it unrounded, as fractions of the image.
    """
    question = Question(key="", prompt=kept.question, stem=kept.question, images=())
    box, crop = kept.box, kept.crop
    turns = (
        ("human", f"{IMAGE_MARK}\n" + grounding_prompt(question, prompt_set)),
        ("gpt", format_box(box, image_size=size)),
        ("human", f"{IMAGE_MARK}\n" + micro_prompt(question, prompt_set)),
        ("gpt", kept.answer),
    )
    values = {
        "id": f"vg_{kept.qa_id}",
        "image": image,
        "sub_image": crop_path(image_id, crop),
        "box": [round(value, 6) for value in box.corners],
        "crop": [crop.left, crop.top, crop.right, crop.bottom],
        "box_from": kept.source,
        "width": size[0],
        "height": size[1],
        "question": kept.question,
        "answer": kept.answer,
        "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
    }
    return Sample(kept.qa_id, image_id, kept.source, _to_json(values), tuple(values.values()))
