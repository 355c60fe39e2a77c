"""Visual Genome's image files, and the sub-regions that are cut out of them before training (section 3.3)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.geometry import Crop
from dualfocus_eval.curation.annotations import ImageData
from dualfocus_eval.curation.reasons import Reason
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.method.crops import crop_picture
from dualfocus_eval.method.images import image_head, prepare_picture

__all__ = ["CROPS", "UnusableImageError", "crop_path", "cut", "find_images", "locate"]

CROPS = "crops"
QUALITY = 95
"""Of the crops' JPEG: they are zoomed, so that artefacts would show."""
_FOLDERS = (
    "", "VG_100K", "VG_100K_2", "images", "images2", "images/VG_100K", "images/VG_100K_2", "images2/VG_100K_2",
)  # fmt: skip
"""Where the two parts of the images lie, depending on how they were unpacked."""
_END_OF_JPEG = b"\xff\xd9"


def find_images(folder: Path) -> Mapping[str, str]:
    """File names to paths below ``folder``, in the folders into which the release unpacks. Raises ``UserError``."""
    found: dict[str, str] = {}
    try:
        for part in _FOLDERS:
            if (folder / part).is_dir():
                with os.scandir(folder / part) as entries:
                    for entry in entries:
                        if entry.is_file():
                            found.setdefault(entry.name, f"{part}/{entry.name}".lstrip("/"))
    except OSError as error:
        raise UserError(f"image folder {folder} cannot be read: {error.strerror or error}") from error
    if not found:
        raise UserError(f"image folder {folder} has no files: expected VG_100K and VG_100K_2, or the images themselves")
    return found


def locate(data: ImageData, files: Mapping[str, str]) -> str | None:
    """The image's path below the image folder, wherever VG_100K and VG_100K_2 were unpacked; None if it is missing."""
    return files.get(data.path.rpartition("/")[2])


def crop_path(image_id: int, crop: Crop) -> str:
    """Where a sub-region is stored below the output folder: the name has all it depends on but the image."""
    return f"{CROPS}/{image_id // 1000}/{image_id}_{crop.left}_{crop.top}_{crop.right}_{crop.bottom}.jpg"


class UnusableImageError(Exception):
    """Why no sub-region can be cut out of an image: ``reason`` is counted, the message tells which image it is."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def cut(source: Path, size: tuple[int, int], crops: Mapping[str, Crop], out: Path) -> None:
    """Cut ``crops`` (by path below ``out``) of the image, upright as in training, whose size should be ``size``.

    Crops that are there and whole are not cut again, and of the image only the head is read if all are. Raises
    `UnusableImageError`, and ``OSError`` where ``out`` cannot be written.
    """
    _check_frame(source, size)
    wanted = {path: crop for path, crop in crops.items() if not _whole(out / path, crop)}
    if not wanted:
        return
    picture = prepare_picture(source, source.name)
    if isinstance(picture, Failure):
        raise UnusableImageError(Reason.IMAGE_UNREADABLE, f"image {picture.message}")
    for path, crop in wanted.items():
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        crop_picture(picture, crop).pixels.save(partial, "JPEG", quality=QUALITY)
        os.replace(partial, target)


def _check_frame(source: Path, size: tuple[int, int]) -> None:
    """Raise where the boxes, which are pixels of an image of ``size``, are not known to be of the image as shown."""
    head = image_head(source)
    if isinstance(head, Failure):
        message = head.message.removeprefix(f"{source.parent}/")
        raise UnusableImageError(Reason.IMAGE_UNREADABLE, f"image {message}")
    if size not in (head.stored, head.size):
        stored = "" if head.stored == head.size else f", stored as {_times(head.stored)}"
        message = f"image {source.name} is {_times(head.size)} pixels{stored}, image_data.json says {_times(size)}"
        raise UnusableImageError(Reason.IMAGE_UNREADABLE, message)
    if head.orientation != 1 and head.stored in (head.size, size):
        raise UnusableImageError(Reason.TURNED, f"image {source.name} has EXIF orientation {head.orientation}")


def _whole(path: Path, crop: Crop) -> bool:
    """Whether a crop is there, of the right size and to its last byte."""
    head = image_head(path)
    if isinstance(head, Failure) or head.stored != crop.size:
        return False
    with path.open("rb") as file:
        file.seek(-len(_END_OF_JPEG), os.SEEK_END)
        return file.read() == _END_OF_JPEG


def _times(size: Iterable[int]) -> str:
    return "x".join(map(str, size))
