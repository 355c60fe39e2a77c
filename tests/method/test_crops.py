import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.crops import MIN_CROP_SIDE, crop_of, crop_picture
from tests.method.released_crop import released_crops
from tests.method.test_boxes import boxes, sizes


def test_a_worked_example() -> None:
    # 640x480, box (64, 96)-(320, 288): side 256 about (192, 192): (64, 64)-(320, 320), enlarged by 25.
    assert crop_of(Box(0.1, 0.2, 0.5, 0.6), (640, 480)) == Crop(39, 39, 345, 345)
    assert crop_of(Box(0.1, 0.2, 0.5, 0.6), (640, 480), rule="released") == Crop(39, 39, 345, 345)
    assert crop_of(Box(0.1, 0.2, 0.5, 0.6), (640, 480), margin=0) == Crop(64, 64, 320, 320)


def test_only_the_full_rule_reaches_the_last_row_and_column() -> None:
    assert crop_of(Box(0, 0, 1, 1), (640, 480)) == Crop(0, 0, 640, 480)
    assert crop_of(Box(0, 0, 1, 1), (640, 480), rule="released") == Crop(0, 0, 639, 479)


def test_full_rounds_outwards_and_is_not_fooled_by_float_noise() -> None:
    assert crop_of(Box(0.333, 0.333, 0.666, 0.666), (100, 100), margin=0) == Crop(33, 33, 67, 67)
    assert 0.57 * 100 != 57
    assert crop_of(Box(0.57, 0.57, 0.58, 0.58), (100, 100), margin=1) == Crop(56, 56, 59, 59)


@pytest.mark.parametrize(("decimals", "margin"), [(2, 25.0), (17, 12.3)])
def test_the_released_rule_is_bit_for_bit_that_of_the_released_arithmetic(decimals: int, margin: float) -> None:
    """As the models write boxes (two decimals), and as they come out of other frames and shifts."""
    draw = np.random.default_rng(decimals)
    corners = np.sort(draw.random((50_000, 2, 2)), axis=1).reshape(-1, 4)
    fractions = corners.round(decimals)
    image_sizes = draw.integers(8, 4_000, (len(fractions), 2))
    expected = released_crops(fractions, image_sizes, margin).tolist()
    for fraction, size, pixels in zip(fractions.tolist(), image_sizes.tolist(), expected, strict=True):
        crop = crop_of(Box(*fraction), tuple(size), rule="released", margin=margin)
        wanted = Crop(*pixels)
        assert crop == (wanted if min(wanted.size) >= MIN_CROP_SIDE else None), (fraction, size)


def test_in_float64_the_released_rule_would_be_another() -> None:
    """The case is kept so that the test above is known to tell the two apart."""
    assert int((0.4 * 530 + 0.62 * 530) / 2 - (0.62 * 530 - 0.4 * 530) / 2 - 25) == 187
    assert crop_of(Box(0.4, 0.82, 0.62, 0.9), (530, 430), rule="released") == Crop(186, 286, 353, 429)


@given(box=boxes(), size=sizes, rule=st.sampled_from(["full", "released"]), margin=st.floats(0, 30_000))
def test_a_crop_is_inside_the_image_and_not_empty_or_none(
    box: Box, size: tuple[int, int], rule: str, margin: float
) -> None:
    crop = crop_of(box, size, rule=rule, margin=margin)
    if crop is not None:
        assert 0 <= crop.left < crop.right <= size[0]
        assert 0 <= crop.top < crop.bottom <= size[1]
        assert min(crop.size) >= MIN_CROP_SIDE


@given(box=boxes(0.01), size=sizes)
def test_the_full_crop_holds_the_box(box: Box, size: tuple[int, int]) -> None:
    crop = crop_of(box, size)
    if crop is None:
        assert min(size) < 2 * MIN_CROP_SIDE
    else:
        assert crop.left <= box.x1 * size[0] + 1e-5
        assert crop.bottom >= box.y2 * size[1] - 1e-5


@pytest.mark.parametrize("rule", ["full", "released"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5_000), (5_000, 1)])
def test_an_image_of_one_pixel_has_no_crop(size: tuple[int, int], rule: str) -> None:
    assert crop_of(Box(0, 0, 1, 1), size, rule=rule) is None


def test_the_crop_is_pixels_of_the_original() -> None:
    image = Image.new("RGB", (40, 30))
    for x, y in itertools.product(range(40), range(30)):
        image.putpixel((x, y), (x, y, 0))
    pixels = crop_picture(Picture(image), Crop(5, 7, 25, 17)).pixels
    assert pixels.size == (20, 10)
    assert pixels.getpixel((0, 0)) == (5, 7, 0)
    assert pixels.getpixel((19, 9)) == (24, 16, 0)
