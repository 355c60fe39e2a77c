import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.method.images import MAX_PIXELS, prepare_picture

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def first_pixel(picture: Picture | Failure) -> object:
    assert isinstance(picture, Picture), picture
    assert picture.pixels.mode == "RGB"
    return picture.pixels.getpixel((0, 0))


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"],
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    picture = prepare_picture(Image.new(mode, (3, 2)))
    assert isinstance(picture, Picture)
    assert (picture.pixels.mode, picture.pixels.size) == ("RGB", (3, 2))


def test_transparent_parts_are_white_whatever_colour_lies_below() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    picture = prepare_picture(image)
    assert first_pixel(picture) == WHITE
    assert picture.pixels.getpixel((1, 0)) == RED


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (2, 1), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert first_pixel(prepare_picture(encoded(image))) == RED
    assert first_pixel(prepare_picture(encoded(image, transparency=1))) == WHITE


def test_sixteen_bit_grey_is_scaled_not_cut() -> None:
    grey = Image.fromarray(np.full((2, 2), 32_896, np.uint16))
    for source in (grey, encoded(grey), encoded(grey, "PPM"), encoded(grey, "TIFF")):
        assert first_pixel(prepare_picture(source)) == (128, 128, 128)


def test_thirty_two_bit_grey_that_fits_into_eight_is_kept() -> None:
    assert first_pixel(prepare_picture(Image.fromarray(np.full((2, 2), 128, np.int32)))) == (128, 128, 128)


def test_cmyk_keeps_its_colours() -> None:
    red = Image.new("RGB", (16, 16), RED).convert("CMYK")
    assert first_pixel(prepare_picture(encoded(red, "TIFF"))) == RED


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (4, 2), WHITE)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    picture = prepare_picture(encoded(image, exif=exif.tobytes()))
    assert isinstance(picture, Picture)
    assert picture.pixels.size == (2, 4)
    assert picture.pixels.getpixel((1, 0)) == RED


def test_the_same_pixels_have_the_same_digest_however_they_come(tmp_path: Path) -> None:
    image = Image.effect_noise((20, 10), 50).convert("RGB")
    path = tmp_path / "image.png"
    path.write_bytes(encoded(image))
    assert (
        prepare_picture(image) == prepare_picture(encoded(image)) == prepare_picture(path) == prepare_picture(str(path))
    )
    assert prepare_picture(image) != prepare_picture(image.rotate(180))


def test_one_pixel_is_an_image() -> None:
    assert first_pixel(prepare_picture(Image.new("RGB", (1, 1), RED))) == RED


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_file_is_named(format: str, lenient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where lmms-eval has told Pillow to fill what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    whole = encoded(Image.effect_noise((60, 60), 90).convert("RGB"), format)
    failure = prepare_picture(whole[: len(whole) // 2])
    assert isinstance(failure, Failure)
    assert failure.kind == "bad_image"
    assert lenient == ImageFile.LOAD_TRUNCATED_IMAGES


def test_an_opened_but_truncated_image_is_named(tmp_path: Path) -> None:
    """As data sets hand them over: the header is read, the pixels are not."""
    path = tmp_path / "cut.jpg"
    whole = encoded(Image.effect_noise((60, 60), 90).convert("RGB"), "JPEG")
    path.write_bytes(whole[: len(whole) // 2])
    failure = prepare_picture(Image.open(path))
    assert isinstance(failure, Failure)
    assert "cut.jpg" in failure.message


def test_a_missing_file_and_a_text_are_named(tmp_path: Path) -> None:
    for source in (tmp_path / "none.png", b"not an image", b""):
        failure = prepare_picture(source)
        assert isinstance(failure, Failure)
        assert failure.kind == "bad_image"
    assert "none.png" in prepare_picture(tmp_path / "none.png").message


def test_twenty_thousand_pixels_wide_is_fine_and_beyond_the_limit_is_named() -> None:
    wide = prepare_picture(Image.new("L", (20_000, 100)))
    assert isinstance(wide, Picture)
    assert wide.pixels.size == (20_000, 100)
    side = int(MAX_PIXELS**0.5) + 2
    huge = Image.new("1", (side, side))
    for source in (huge, encoded(huge)):
        failure = prepare_picture(source)
        assert isinstance(failure, Failure)
        assert (failure.kind, str(MAX_PIXELS) in failure.message) == ("bad_image", True)


def test_no_pixels_at_all_is_named() -> None:
    assert prepare_picture(Image.new("RGB", (0, 5))).kind == "bad_image"


SEEDS = [
    encoded(Image.effect_noise((24, 16), 80).convert("RGB"), format)
    for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF")
]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@hypothesis_settings(max_examples=500)
@given(seed=st.sampled_from(SEEDS), damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8))
def test_a_damaged_file_is_a_picture_or_a_named_failure(seed: bytes, damage: list[tuple[int, int]]) -> None:
    content = bytearray(seed)
    for position, value in damage:
        content[position % len(content)] = value
    result = prepare_picture(bytes(content))
    assert isinstance(result, Picture) or result.kind == "bad_image"
