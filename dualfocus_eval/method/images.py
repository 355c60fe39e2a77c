"""From whatever a data set calls an image to a `Picture`, or to a named failure."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from dualfocus_eval.engines.base import Failure, Picture

__all__ = ["MAX_PIXELS", "prepare_picture", "whole_files_only"]

MAX_PIXELS = 178_956_970
"""Pillow's own limit, beyond which it takes a file for a decompression bomb: 20,000 x 8,900 px, 0.5 GB as RGB."""

_SIXTEEN_BITS = 257
"""65535 / 255."""


def prepare_picture(source: Image.Image | bytes | str | os.PathLike[str]) -> Picture | Failure:
    """The image as the model is to see it: decoded, rotated as its EXIF says, RGB in 8 bits.

    Transparent parts are laid on white (Pillow's own conversion would uncover whatever colour is stored below them),
    16-bit grey is scaled, of an animation the first frame counts. ``source`` is an image, or the bytes or path of a
    file. A file that is missing, corrupt, cut off or larger than `MAX_PIXELS` is a Failure of kind ``bad_image``.
    """
    try:
        with warnings.catch_warnings():
            # Below the limit a large image is welcome.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = source if isinstance(source, Image.Image) else _open(source)
        width, height = image.size
        if width * height > MAX_PIXELS:
            return Failure("bad_image", f"{width}x{height} pixels are more than the {MAX_PIXELS} allowed: shrink it")
        if not width or not height:
            return Failure("bad_image", f"{width}x{height} pixels are no image")
        with whole_files_only():
            image.load()
        return Picture(_rgb(_upright(image)))
    # Decoders raise nearly anything for a corrupt file: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        return Failure("bad_image", f"{_name(source)}: {type(error).__name__}: {error}")


def _open(source: bytes | str | os.PathLike[str]) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


@contextmanager
def whole_files_only() -> Iterator[None]:
    """lmms-eval tells Pillow to fill what a truncated file lacks with grey; a question must not be asked about that."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # A broken EXIF block says nothing about the pixels, which have been decoded.
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _eight_bits(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        # Pillow converts grey with premultiplied alpha to nothing but its plain form.
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(grey: NDArray[np.integer[Any]]) -> Image.Image:
    """``grey`` (height, width) scaled from 16 bits; 32-bit integers that fit into 8 bits are taken as they are."""
    scale = 1 if grey.dtype.itemsize > 2 and grey.max() <= 255 else _SIXTEEN_BITS
    return Image.fromarray(np.clip(np.rint(grey / scale), 0, 255).astype(np.uint8))


def _name(source: object) -> str:
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "image")
    return "image" if isinstance(source, bytes) else str(source)
