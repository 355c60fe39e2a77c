"""GQA's testdev images on the hub, opened one by one: questions and images lie in two configurations there.

Rows carry a reference to their image instead of the image, so that rows of one image can be told apart from others
without decoding anything.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.datasets.gqa import SPLIT
from dualfocus_eval.datasets.gqa_mcq import Annotation
from dualfocus_eval.datasets.prepared import image_of, undecoded

__all__ = ["hub_annotations", "open_image", "reference", "with_image_references"]

HUB = "lmms-lab-encoder/GQA"
IMAGES, INSTRUCTIONS = "testdev_balanced_images", "testdev_balanced_instructions"


class _Images(NamedTuple):
    dataset: Any
    """Memory-mapped: a row's image is read when the row is asked for."""
    row_of: dict[str, int]


@functools.lru_cache(maxsize=1)
def _images() -> _Images:
    from datasets import load_dataset

    dataset = undecoded(load_dataset(HUB, IMAGES, split=SPLIT))
    return _Images(dataset, {name: row for row, name in enumerate(dataset.select_columns(["id"])["id"])})


def reference(image_id: str) -> dict[str, Any]:
    """What stands for a hub image in a row's ``image``."""
    return {"bytes": None, "path": f"{HUB}/{image_id}"}


def with_image_references(dataset: Any, column: str) -> Any:
    """``dataset`` with an ``image`` for every row, `undecoded`: its own, or the one of the image id in ``column``."""
    from datasets import Image as ImageFeature

    if "image" in dataset.column_names:
        return undecoded(dataset)
    _images()  # a hub out of reach shows here, once, and not at every question
    references = [reference(image_id) for image_id in dataset.select_columns([column])[column]]
    return dataset.add_column("image", references, feature=ImageFeature(decode=False))


def open_image(value: Any) -> Image.Image:
    """The RGB image of a row's ``image``: a hub reference, or whatever `image_of` opens.

    Raises ``UserError`` for an image that the hub's set does not have, and what `image_of` raises.
    """
    if not (isinstance(value, dict) and str(value.get("path")).startswith(f"{HUB}/")):
        return image_of(value)
    image_id = value["path"].removeprefix(f"{HUB}/")
    images = _images()
    if image_id not in images.row_of:
        raise UserError(f"image {image_id} is not in {HUB}, configuration {IMAGES}")
    return image_of(images.dataset[images.row_of[image_id]]["image"])


def hub_annotations() -> dict[str, Annotation]:
    """Right answer and structural type of every testdev question by its id."""
    from datasets import load_dataset

    columns = load_dataset(HUB, INSTRUCTIONS, split=SPLIT).select_columns(["id", "answer", "types"])
    return {row["id"]: Annotation(row["answer"], row["types"]["structural"] or "") for row in columns}
