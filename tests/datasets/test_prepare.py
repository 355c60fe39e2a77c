"""Official releases to prepared benchmarks: what is kept, what is left out and why, and what a kill leaves behind."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value, load_dataset
from datasets import Image as ImageFeature
from lmms_eval.utils import load_yaml_config
from PIL import Image

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.datasets.prepared import MANIFEST, image_of
from tests.postscript import POSTSCRIPT, ghostscript_log

SPLITS = ("random", "popular", "adversarial")


def release(folder: Path, images: int = 4, questions: int = 6) -> Path:
    """A POPE release of its own making: question files and the images they name."""
    folder.mkdir(parents=True)
    (folder / "val2014").mkdir()
    for number in range(images):
        Image.new("RGB", (20 + number, 16), (number * 7 % 256, 90, 30)).save(
            folder / "val2014" / f"COCO_{number:03}.jpg"
        )
    for split in SPLITS:
        lines = [
            {
                "question_id": number,
                "image": f"COCO_{number % images:03}.jpg",
                "text": f"Is there a thing {number}?",
                "label": ("yes", "no")[number % 2],
            }
            for number in range(1, questions + 1)
        ]
        (folder / f"coco_pope_{split}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def prepare(source: Path, root: Path, name: str = "pope") -> int:
    return main(["data", "prepare", name, "--source", str(source), "--out", str(root)])


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def left_out(root: Path) -> list[dict[str, str]]:
    manifest = json.loads((root / "pope" / MANIFEST).read_text())
    entries: list[dict[str, str]] = manifest["left_out"]
    return entries


def test_rows_have_the_hubs_columns_and_images_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare(release(tmp_path / "source"), tmp_path / "root") == 0
    rows = load_dataset("parquet", data_files=str(tmp_path / "root/pope/random.parquet"), split="train")
    assert rows.column_names == ["id", "question_id", "question", "answer", "image_source", "category", "image"]
    assert rows[1] | {"image": None} == {
        "id": "2", "question_id": "2", "question": "Is there a thing 2?", "answer": "yes", "image_source": "COCO_002",
        "category": "random", "image": None,
    }  # fmt: skip
    assert len(list((tmp_path / "root/pope/images").iterdir())) == 4
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path / "root"))
    assert image_of(rows[1]["image"]).size == (22, 16)


def test_a_second_run_changes_nothing_and_does_nothing(tmp_path: Path) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    prepare(source, root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert prepare(source, root) == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_bad_rows_are_left_out_by_name_and_the_others_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)  # as lmms-eval does
    source, root = release(tmp_path / "source"), tmp_path / "root"
    file = source / "coco_pope_random.json"
    lines = file.read_text().splitlines()
    lines[0] = '{"question_id": 1, "image'
    lines[1] = json.dumps({"question_id": 2, "image": "COCO_002.jpg", "label": "yes"})
    lines[2] = json.dumps({"question_id": 3, "image": "nowhere.jpg", "text": "Is it?", "label": "no"})
    lines[3] = json.dumps({"question_id": 5, "image": "COCO_000.jpg", "text": "Is it?", "label": "perhaps"})
    lines.append(lines[4])
    file.write_text("\n".join(lines))
    truncated = source / "val2014" / "COCO_001.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-40])
    assert prepare(source, root) == 1
    reasons = {entry["where"]: entry["reason"] for entry in left_out(root)}
    assert "is not JSON" in reasons["coco_pope_random.json:1"]
    assert reasons["coco_pope_random.json:2"] == "lacks text"
    assert "image nowhere.jpg is not in the source folder" in reasons["coco_pope_random.json:3"]
    assert "neither yes nor no" in reasons["coco_pope_random.json:4"]
    assert "runcated" in reasons["coco_pope_random.json:5"]
    assert "runcated" in reasons["coco_pope_popular.json:1"]
    manifest = json.loads((root / "pope" / MANIFEST).read_text())
    assert {split: entry["rows"] for split, entry in manifest["splits"].items()} == {
        "random": 1, "popular": 4, "adversarial": 4,
    }  # fmt: skip
    assert "left out coco_pope_random.json:1" in capsys.readouterr().err
    assert main(["data", "verify", "pope", "--out", str(root)]) == 1
    assert "left out coco_pope_random.json:1" in capsys.readouterr().err


def test_two_images_of_one_name_are_never_taken_for_each_other(tmp_path: Path) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    (source / "other").mkdir()
    Image.new("RGB", (50, 50)).save(source / "other" / "COCO_001.jpg")
    file = source / "coco_pope_random.json"
    entry = {"question_id": 7, "image": "other/COCO_001.jpg", "text": "Is it?", "label": "no"}
    named = {"question_id": 8, "image": "val2014/COCO_001.jpg", "text": "Is it?", "label": "no"}
    file.write_text(file.read_text() + "\n".join(map(json.dumps, (entry, named))))
    assert prepare(source, root) == 1
    reasons = {entry["where"]: entry["reason"] for entry in left_out(root)}
    ambiguous = "image COCO_001.jpg may be any of 2 files: other/COCO_001.jpg, val2014/COCO_001.jpg"
    assert reasons["coco_pope_random.json:1"] == ambiguous
    assert "has the name of" in reasons["coco_pope_random.json:8"]
    assert "coco_pope_random.json:7" not in reasons


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question_id": 7, "image": "COCO_001.jpg", "text": "\xff", "label": "no"}', "is not JSON"),
        (b'{"question_id": 7, "image": "COCO_001.jpg", "text": "\\ud800", "label": "no"}', "does not fit the table"),
        (b'{"question_id": 7, "image": "\\ud800", "text": "Is it?", "label": "no"}', "is not in the source folder"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_no_line_is_so_bad_that_it_ends_the_run(tmp_path: Path, line: bytes, reason: str) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    file = source / "coco_pope_random.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + line)
    assert prepare(source, root) == 1
    (entry,) = left_out(root)
    assert entry["where"] == "coco_pope_random.json:7"
    assert reason in entry["reason"]


def test_another_source_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert prepare(release(tmp_path / "first"), root) == 0
    second = release(tmp_path / "second", questions=8)
    for split in ("popular", "adversarial"):
        (second / f"coco_pope_{split}.json").unlink()
    assert prepare(second, root) == 0
    assert sorted(path.name for path in root.glob("pope/*.parquet")) == ["random.parquet"]


def test_what_is_damaged_is_made_good_by_the_next_run(tmp_path: Path) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    prepare(source, root)
    whole = contents(root)
    (root / "pope/images/COCO_002.jpg").unlink()
    (root / "pope/random.parquet").write_bytes(b"x")
    assert prepare(source, root) == 0
    assert contents(root) == whole
    (root / "pope" / MANIFEST).write_text("{}")
    assert main(["data", "verify", "pope", "--out", str(root)]) == 1
    assert prepare(source, root) == 0
    assert contents(root) == whole


def test_a_wrong_source_leaves_a_preparation_alone(tmp_path: Path) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    prepare(source, root)
    whole = contents(root)
    empty = release(tmp_path / "empty", questions=5)
    for image in (empty / "val2014").iterdir():
        image.unlink()
    assert prepare(empty, root) == 2
    assert contents(root) == whole


def test_images_are_upright_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the hub's are: lmms-eval tells Pillow to fill up truncated files, and EXIF may turn a picture."""
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert image_of({"bytes": None, "path": "turned.jpg"}).size == (10, 30)
    noise = Image.effect_noise((200, 200), 80)
    noise.save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:3000])
    with pytest.raises(OSError, match=r"cut\.jpg"):
        image_of({"bytes": None, "path": "cut.jpg"})


@pytest.mark.parametrize(
    "name",
    [
        "df_pope_random", "df_seed_img", "df_mmbench_en_dev", "df_gqa", "df_textvqa_val", "df_vstar", "df_hrbench_8k",
        "df_mme_realworld_lite",
    ],
)  # fmt: skip
def test_every_task_opens_prepared_images(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path))
    Image.new("RGB", (30, 10)).save(tmp_path / "a.png")
    (path,) = resource_folder("tasks").rglob(f"{name}.yaml")
    show = load_yaml_config(str(path), mode="full")["doc_to_visual"]
    assert show({"image": {"bytes": None, "path": "a.png"}})[0].size == (30, 10)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.effect_noise((30, 10), 80), "PNG", exif=exif.tobytes())


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


TASKS = (
    "df_pope_random", "df_pope_mini_random", "df_seed_img", "df_mmbench_en_dev", "df_gqa", "df_gqa_mcq",
    "df_textvqa_val", "df_scenes_mini",
)  # fmt: skip
KINDS = {
    "transparent": encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"),
    "sixteen bits": encoded(Image.fromarray(np.full((4, 4), 32_896, np.uint16)), "PNG"),
    "turned": turned(),
    "cut off": encoded(Image.effect_noise((99, 99), 80), "JPEG")[:2000],
    "postscript": POSTSCRIPT,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TASKS)
def test_rows_of_the_hub_are_the_pixels_of_prepared_rows(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)  # as lmms-eval does
    monkeypatch.setenv("DUALFOCUS_DATA", str(tmp_path))
    log = ghostscript_log(tmp_path, monkeypatch)
    (tmp_path / "a.png").write_bytes(KINDS[kind])
    texts = {"question": "Is it?", "data_type": "image", "imageId": "a", "stem": "Is it?"}
    feature = List(ImageFeature()) if name == "df_seed_img" else ImageFeature()
    stored = {"bytes": KINDS[kind], "path": "a.png"}
    if name == "df_textvqa_val":
        del texts["stem"]
    rows = Dataset.from_dict(
        {**{key: [text] for key, text in texts.items()}, "image": [[stored] if name == "df_seed_img" else stored]},
        features=Features({**dict.fromkeys(texts, Value("string")), "image": feature}),
    )
    (path,) = resource_folder("tasks").rglob(f"{name}.yaml")
    config = load_yaml_config(str(path), mode="full")
    found = []
    for image in (config["process_docs"](rows)[0]["image"], {"bytes": None, "path": "a.png"}):
        try:
            (pixels,) = config["doc_to_visual"]({"image": image})
            found.append((pixels.mode, pixels.size, pixels.tobytes()))
        except OSError as error:
            found.append(str(error).rpartition("a.png: ")[2])
    assert found[0] == found[1]
    assert isinstance(found[0], str) == (kind in ("cut off", "postscript"))
    if kind in ("transparent", "sixteen bits"):
        assert set(found[0][2]) == {255 if kind == "transparent" else 128}
    assert not log.exists()


def test_a_question_id_that_occurs_twice_counts_once(tmp_path: Path) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    file = source / "coco_pope_random.json"
    file.write_text(file.read_text() + file.read_text().splitlines()[0])
    assert prepare(source, root) == 1
    assert left_out(root) == [
        {"where": "coco_pope_random.json:7", "reason": "question id 1 occurs a second time"},
    ]


@pytest.mark.parametrize("what", ["empty", "no images", "missing"])
def test_a_folder_that_is_no_release_is_one_clear_line(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    if what != "missing":
        source.mkdir()
    if what == "no images":
        (source / "coco_pope_random.json").write_text('{"question_id": 1, "image": "a", "text": "b", "label": "no"}\n')
    assert prepare(source, tmp_path / "root") == 2
    message = capsys.readouterr().err
    assert str(source) in message
    assert len(message.splitlines()) == 1


def test_a_wrong_name_names_the_right_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, tmp_path, name="poep") == 2
    assert "Did you mean pope?" in capsys.readouterr().err


def test_verify_finds_what_was_changed_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    prepare(release(tmp_path / "source"), root)
    (root / "pope/images/COCO_002.jpg").write_bytes(b"other")
    (root / "pope/images/COCO_003.jpg").unlink()
    with (root / "pope/popular.parquet").open("ab") as file:
        file.write(b"!")
    assert main(["data", "verify", "--out", str(root)]) == 1
    message = capsys.readouterr().err
    assert "COCO_002.jpg is damaged" in message
    assert "COCO_003.jpg is missing" in message
    assert "popular.parquet is not the file that was prepared" in message
    assert "6 questions, published are 3000" in message


def test_images_without_their_folder_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUALFOCUS_DATA", raising=False)
    with pytest.raises(UserError, match="set DUALFOCUS_DATA"):
        image_of({"bytes": None, "path": "pope/images/a.jpg"})


def test_a_kill_at_any_moment_is_made_good_by_the_next_run(tmp_path: Path) -> None:
    """Byte for byte what an undisturbed run writes, stray files included."""
    source = release(tmp_path / "source", images=200, questions=400)
    prepare(source, tmp_path / "undisturbed")
    rng, root = random.Random(0), tmp_path / "root"
    command = [
        sys.executable, "-c", "from dualfocus_eval.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))",
        "data", "prepare", "pope", "--source", str(source), "--out", str(root),
    ]  # fmt: skip
    killed = 0
    for moment in sorted(rng.sample(range(200), 10)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(root.glob("pope/images/*"))) <= moment:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 5
    assert prepare(source, root) == 0
    assert contents(root) == contents(tmp_path / "undisturbed")
