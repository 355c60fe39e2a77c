import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.method.images import MAX_PIXELS, image_head, prepare_picture, strict_decoding
from tests.postscript import POSTSCRIPT, ghostscript_log

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


@pytest.mark.parametrize(
    ("values", "grey"),
    [((0.0, 0.5, 1.0), 128), ((0.0, 0.5), 128), ((0.0, 128.2, 254.9), 128), ((0.0,), 0), ((1.0,), 255)],
)
def test_floating_point_numbers_are_from_0_to_1_or_to_255(values: tuple[float, ...], grey: int) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    for source in (image, encoded(image, "TIFF")):
        picture = prepare_picture(source)
        assert isinstance(picture, Picture)
        assert picture.pixels.getpixel((min(1, len(values) - 1), 0)) == (grey,) * 3


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([0, -0.5], np.float32), "grey values from -0.5 to 0 are not 0 to 1 or 0 to 255"),
        (np.array([0, 300], np.float32), "grey values from 0 to 300"),
        (np.array([0, np.nan], np.float32), "grey values from nan to nan"),
        (np.array([0, np.inf], np.float32), "grey values from 0 to inf"),
        (np.array([-1, 5], np.int32), "grey values from -1 to 5 are not 0 to 65535: convert it to 8 bits"),
        (np.array([0, 70_000], np.int32), "grey values from 0 to 70000"),
    ],
)
def test_grey_of_no_known_range_is_named(values: np.ndarray, reason: str) -> None:
    """Pillow's own conversion makes it black or white."""
    for source in (Image.fromarray(values[None]), encoded(Image.fromarray(values[None]), "TIFF")):
        failure = prepare_picture(source)
        assert isinstance(failure, Failure)
        assert reason in failure.message


def test_the_transparent_grey_of_a_sixteen_bit_image_is_white() -> None:
    grey = Image.fromarray(np.array([[0, 32_896]], np.uint16))
    picture = prepare_picture(encoded(grey, transparency=0))
    assert first_pixel(picture) == WHITE
    assert isinstance(picture, Picture)
    assert picture.pixels.getpixel((1, 0)) == (128, 128, 128)


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


@pytest.mark.parametrize("orientation", range(10))
def test_the_head_tells_the_size_as_shown(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.new("RGB", (4, 2)), exif=exif.tobytes())
    head, picture = image_head(content), prepare_picture(content)
    assert not isinstance(head, Failure)
    assert isinstance(picture, Picture)
    assert (head.stored, head.size) == ((4, 2), picture.pixels.size)
    assert head.orientation == (orientation if 1 <= orientation <= 8 else 1)


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


@pytest.mark.parametrize("name", ["picture.jpg", "picture.eps", "picture"])
def test_postscript_is_no_image_whatever_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ghostscript_log(tmp_path, monkeypatch)
    path = tmp_path / name
    path.write_bytes(POSTSCRIPT)
    for source in (path, POSTSCRIPT, Image.open(path)):
        for result in (prepare_picture(source), image_head(source)):
            assert isinstance(result, Failure)
            assert "JPEG, PNG" in result.message
    with strict_decoding(), Image.open(path) as image, pytest.raises(OSError, match="Ghostscript"):
        image.load()  # as datasets and tasks open it
    assert not log.exists()
    Image.open(path).load()
    assert log.exists()  # the trap works


@pytest.mark.parametrize("format", ["EPS", "PDF", "TGA", "ICO", "PCX", "SGI", "DDS"])
def test_formats_that_no_data_set_has_are_refused(format: str) -> None:
    failure = prepare_picture(encoded(Image.new("RGB", (16, 16)), format))
    assert isinstance(failure, Failure)


@pytest.mark.parametrize("format", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_formats_of_data_sets_are_read(format: str) -> None:
    assert isinstance(prepare_picture(encoded(Image.new("RGB", (16, 16)), format)), Picture)
    assert isinstance(prepare_picture(Image.open(io.BytesIO(encoded(Image.new("RGB", (16, 16)), format)))), Picture)


def test_what_is_no_regular_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name in ("pipe", "device", "folder", "loop"):
        for result in (prepare_picture(tmp_path / f"{name}.png"), image_head(tmp_path / f"{name}.png")):
            assert isinstance(result, Failure)
            assert f"{name}.png: " in result.message
            assert name == "loop" or "it is not a regular file" in result.message


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


FILES = [
    encoded(image, format)
    for format, image in [
        *((format, Image.effect_noise((24, 16), 80).convert("RGB")) for format in ("PNG", "JPEG", "GIF", "WEBP")),
        *((format, Image.effect_noise((24, 16), 80)) for format in ("TIFF", "PPM", "BMP", "JPEG2000", "AVIF")),
        ("PNG", Image.new("RGBA", (24, 16), (1, 2, 3, 4))),
        ("TIFF", Image.fromarray(np.full((16, 24), 0.5, np.float32))),
    ]
] + [encoded(Image.new("RGB", (16, 16)), "DDS"), POSTSCRIPT]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@hypothesis_settings(max_examples=600)
@given(
    file=st.sampled_from(FILES),
    damage=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), max_size=8),
    end=st.none() | st.integers(0, 400),
)
def test_a_damaged_file_is_a_picture_or_a_named_failure(
    file: bytes, damage: list[tuple[int, int]], end: int | None
) -> None:
    content = bytearray(file)
    for position, value in damage:
        content[position % len(content)] = value
    for result in (prepare_picture(bytes(content[:end])), image_head(bytes(content[:end]))):
        assert not isinstance(result, Failure) or result.kind == "bad_image"
