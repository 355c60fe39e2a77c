"""Visual Genome's image files, and the sub-regions that are cut out of them before training (section 3.3)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from dualfocus_eval.data.curation.records import ImageData
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.errors import UserError
from dualfocus_eval.method.crops import Crop, crop_picture
from dualfocus_eval.method.images import whole_files_only

__all__ = ["CROPS", "crop_path", "cut", "find_images", "locate"]

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


def cut(source: Path, size: tuple[int, int], crops: Mapping[str, Crop], out: Path) -> str:
    """Cut ``crops`` (by path below ``out``) of an image file whose size should be ``size``; what is wrong, or "".

    Crops that are there and whole are not cut again, and the image is not read if all are. Raises ``OSError`` where
    ``out`` cannot be written.
    """
    wanted = {path: crop for path, crop in crops.items() if not _whole(out / path, crop)}
    if not wanted:
        return ""
    try:
        with whole_files_only(), Image.open(source) as file:
            pixels = file.convert("RGB")
    except UnidentifiedImageError:
        return f"image {source.name} is no image"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"image {source.name} is missing or damaged: {error}"
    if pixels.size != size:
        return f"image {source.name} is {_times(pixels.size)} pixels, image_data.json says {_times(size)}"
    picture = Picture(pixels)
    for path, crop in wanted.items():
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        crop_picture(picture, crop).pixels.save(partial, "JPEG", quality=QUALITY)
        os.replace(partial, target)
    return ""


def _whole(path: Path, crop: Crop) -> bool:
    """Whether a crop is there, of the right size and to its last byte."""
    try:
        with Image.open(path) as image:
            if image.size != crop.size:
                return False
        with path.open("rb") as file:
            file.seek(-len(_END_OF_JPEG), os.SEEK_END)
            return file.read() == _END_OF_JPEG
    except (OSError, SyntaxError, ValueError):
        return False


def _times(size: Iterable[int]) -> str:
    return "x".join(map(str, size))
