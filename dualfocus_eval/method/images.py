"""The one place where images are opened: from whatever a data set calls an image to a `Picture`, or a named failure."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageFile, ImageOps, UnidentifiedImageError

from dualfocus_eval.common.files import open_regular
from dualfocus_eval.engines.base import Failure, Picture

__all__ = [
    "FORMATS", "IMAGE_SUFFIXES", "MAX_PIXELS", "image_head", "prepare_picture", "shows_several_frames",
    "strict_decoding",
]  # fmt: skip

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What an image file may be, whatever its name ends with, in Pillow's names. Of all that Pillow reads, some start
another program (EPS starts Ghostscript), and some have no signature, so that damaged files of other formats pass."""

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""By which image files are told from others where their name has to tell."""

MAX_PIXELS = 178_956_970
"""Pillow's own limit, beyond which it takes a file for a decompression bomb: 20,000 x 8,900 px, 0.5 GB as RGB."""

_SIXTEEN_BITS = 257
"""65535 / 255."""
_ORIENTATION = 0x0112
"""The EXIF tag."""
_SIDEWAYS = (5, 6, 7, 8)
"""Orientations of an image whose width is stored as its height."""

Source = Image.Image | bytes | str | os.PathLike[str]
"""An image, the bytes of an image file, or the path of one."""


@dataclass(frozen=True)
class ImageHead:
    """What an image file says of its pixels before they are decoded."""

    stored: tuple[int, int]
    """Width and height in pixels, as stored."""
    orientation: int
    """EXIF's, 1 to 8; 1 means that the image is shown as it is stored."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as shown and as `prepare_picture` returns it."""
        return self.stored[::-1] if self.orientation in _SIDEWAYS else self.stored


def prepare_picture(source: Source, name: str = "") -> Picture | Failure:
    """The image as the model is to see it: decoded, rotated as its EXIF says, RGB in 8 bits.

    Transparent parts are laid on white (Pillow's own conversion would uncover whatever colour is stored below them),
    16-bit grey is scaled, and so are floating-point numbers from 0 to 1; of an animation the first frame counts.
    A file that is missing, not regular, of another format than `FORMATS`, corrupt, cut off or larger than `MAX_PIXELS`,
    and grey values beyond 16 bits, are a Failure of kind ``bad_image``. ``name`` tells which image that is.
    """
    try:
        with _opened(source) as image:
            _check_size(image.size)
            image.load()
            return Picture(_rgb(_upright(image)))
    # Decoders raise nearly anything for a corrupt file: OSError, SyntaxError, struct.error, RuntimeError, ...
    except Exception as error:
        return _failure(source, name, error)


def image_head(source: Source) -> ImageHead | Failure:
    """Size and orientation, in most formats without decoding the pixels. Fails as `prepare_picture` does."""
    try:
        with _opened(source) as image:
            _check_size(image.size)
            return ImageHead(image.size, _orientation(image))
    except Exception as error:
        return _failure(source, "", error)


def shows_several_frames(source: Source) -> bool:
    """Whether it is an animation or has several pages, of which `prepare_picture` takes the first; False where it
    cannot be opened. The further images of a camera's JPEG (MPO), such as a preview, do not count."""
    try:
        with _opened(source) as image:
            return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # as in `prepare_picture`, which names what is wrong
        return False


@contextmanager
def strict_decoding() -> Iterator[None]:
    """Pillow with two things off: lmms-eval tells it to fill what a truncated file lacks with grey, about which no
    question must be asked; and it starts Ghostscript for PostScript.

    For images that others open (``datasets``, tasks). What this module opens is opened so.
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES, EpsImagePlugin.gs_binary
    ImageFile.LOAD_TRUNCATED_IMAGES, EpsImagePlugin.gs_binary = False, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, EpsImagePlugin.gs_binary = before


@contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    with strict_decoding(), warnings.catch_warnings():
        # Below the limit a large image is welcome.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if isinstance(source, Image.Image):
            if source.format not in (None, "MPO", *FORMATS):
                raise ValueError(f"the format {source.format} is none of {', '.join(FORMATS)}")
            yield source
            return
        with (
            io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            yield image


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are more than the {MAX_PIXELS} allowed: shrink it")
    if not width or not height:
        raise ValueError(f"{width}x{height} pixels are no image")


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:
        # A broken EXIF block says nothing about the pixels.
        return 1
    return found if type(found) is int and 1 <= found <= 8 else 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        # Pillow converts grey with premultiplied alpha to nothing but its plain form.
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floating-point numbers in 8 bits: from 16 bits, or from 0 to 1, whichever fits.

    Values that fit into 8 bits are taken as they are, but for 16-bit images. Raises ``ValueError`` for others.
    """
    grey = np.asarray(image)  # (height, width)
    low, high = grey.min(), grey.max()
    is_float = grey.dtype.kind == "f"
    if not (low >= 0 and high <= (255 if is_float else 65535)):
        allowed = "0 to 1 or 0 to 255" if is_float else "0 to 65535"
        raise ValueError(f"grey values from {low:g} to {high:g} are not {allowed}: convert it to 8 bits")
    if is_float:
        eight: NDArray[Any] = grey * 255 if high <= 1 else grey
    else:
        eight = grey if grey.dtype.itemsize > 2 and high <= 255 else grey / _SIXTEEN_BITS
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        eight = np.where(grey == transparent, 255, eight)
    return Image.fromarray(np.rint(eight).astype(np.uint8))


def _failure(source: Source, name: str, error: Exception) -> Failure:
    if not name:
        if isinstance(source, Image.Image):
            name = str(getattr(source, "filename", ""))
        elif not isinstance(source, bytes):
            name = os.fspath(source)
    if isinstance(error, UnidentifiedImageError):
        reason = f"no image in one of the formats {', '.join(FORMATS)}"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = f"{type(error).__name__}: {error}"
    return Failure("bad_image", f"{name or 'image'}: {reason}")
