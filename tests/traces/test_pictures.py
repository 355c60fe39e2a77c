"""The picture store: each image once, whole files only, and nothing that is lost costs an answer."""

from __future__ import annotations

import math
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualfocus_eval.engines.base import Picture
from dualfocus_eval.traces.pictures import PictureStore, picture_file
from tests.full_disk import file_size_limit


def picture(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(Image.fromarray(pixels))


def kept(folder: Path, *pictures: Picture, side: float | None = 768, rank: int = 0) -> Counter[str]:
    with closing(PictureStore(folder, side, rank=rank)) as store:
        store.keep(pictures)
    return store.failures


def file_of(folder: Path, one: Picture) -> Path:
    path = picture_file(folder, one.digest)
    assert path is not None
    return path


def test_a_picture_is_kept_once_by_its_content(tmp_path: Path) -> None:
    assert kept(tmp_path, picture(), picture(), picture(1)) == Counter()
    assert sorted((tmp_path / "images").iterdir()) == sorted(file_of(tmp_path, picture(seed)) for seed in (0, 1))


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((1600, 800), 768, (768, 384)),
        ((800, 1600), 768, (384, 768)),
        ((768, 3), 768, (768, 3)),
        ((5000, 1), 768, (768, 1)),
        ((1600, 800), math.inf, (1600, 800)),
    ],
)
def test_the_longer_side_is_shrunk(
    tmp_path: Path, size: tuple[int, int], side: float, expected: tuple[int, int]
) -> None:
    one = picture(size=size)
    kept(tmp_path, one, side=side)
    with Image.open(file_of(tmp_path, one)) as found:
        assert (found.format, found.size, found.mode) == ("JPEG", expected, "RGB")
    assert one.pixels.size == size


def test_nothing_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    assert kept(tmp_path, picture(), side=None) == Counter()
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    kept(tmp_path, picture())
    file_of(tmp_path, picture()).write_bytes(b"somebody's own")
    kept(tmp_path, picture())
    assert file_of(tmp_path, picture()).read_bytes() == b"somebody's own"


def test_what_a_rerun_lacks_is_filled_in(tmp_path: Path) -> None:
    kept(tmp_path, picture(), picture(1))
    file_of(tmp_path, picture(1)).unlink()
    kept(tmp_path, picture(), picture(1))
    assert file_of(tmp_path, picture(1)).exists()


def test_ranks_write_the_same_pictures_at_once(tmp_path: Path) -> None:
    pictures = [picture(seed, (200, 150)) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda rank: kept(tmp_path, *pictures, rank=rank), range(4)))
    assert results == [Counter()] * 4
    files = sorted((tmp_path / "images").iterdir())
    assert files == sorted(file_of(tmp_path, one) for one in pictures)
    for path in files:
        with Image.open(path) as found:
            found.load()


def test_what_a_killed_run_left_half_written_is_removed_by_its_own_rank(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    own, other = (folder / f"{'a' * 32}.jpg.rank000{rank}.partial" for rank in (1, 2))
    own.write_bytes(b"half")
    other.write_bytes(b"half")
    kept(tmp_path, picture(), rank=1)
    assert not own.exists()
    assert other.exists()
    assert picture_file(tmp_path, "a" * 32) not in [*folder.iterdir()]


def test_a_full_disk_is_counted_and_leaves_no_part_of_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    large = [picture(seed, (300, 300)) for seed in (1, 2)]
    with file_size_limit(8_000):
        failures = kept(tmp_path, picture(), *large)
    assert failures == Counter(EFBIG=2)
    assert [*(tmp_path / "images").iterdir()] == [file_of(tmp_path, picture())]
    assert len([record for record in caplog.records if "the run goes on" in record.message]) == 1


def test_a_picture_that_failed_is_tried_again_with_its_next_question(tmp_path: Path) -> None:
    large = picture(size=(300, 300))
    store = PictureStore(tmp_path, 768)
    with file_size_limit(8_000):
        store.keep([large])
        store._pool.submit(lambda: None).result()  # type: ignore[union-attr]  # the one thread has come so far
    assert store.failures == Counter(EFBIG=1)
    store.keep([large])
    store.close()
    assert store.failures == Counter()
    assert file_of(tmp_path, large).exists()


def test_a_folder_that_cannot_be_made_costs_the_pictures_only(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file of somebody's")
    assert kept(tmp_path, picture(), picture(1)) == Counter(EEXIST=2)


def test_what_no_jpeg_can_hold_is_named(tmp_path: Path) -> None:
    failures = kept(tmp_path, Picture(Image.new("RGB", (70_000, 1))), side=math.inf)
    assert failures.total() == 1
    assert [*(tmp_path / "images").iterdir()] == []


@pytest.mark.parametrize("digest", ["", "..", "../../etc/passwd", "a" * 65, "A" * 32, f"{'a' * 32}\n", "a/b"])
def test_no_file_name_is_made_of_what_is_no_digest(tmp_path: Path, digest: str) -> None:
    assert picture_file(tmp_path, digest) is None


def test_more_pictures_than_may_wait_are_all_written(tmp_path: Path) -> None:
    pictures = [picture(seed, (8, 8)) for seed in range(200)]
    kept(tmp_path, *pictures)
    assert len(os.listdir(tmp_path / "images")) == 200
