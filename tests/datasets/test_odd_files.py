"""Files that no release should have: each costs its row, by name, and neither the run nor another program's start."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.files import sole_writer
from dualfocus_eval.datasets.prepared import MANIFEST, image_of
from tests.postscript import POSTSCRIPT, ghostscript_log


def encoded(format: str) -> bytes:
    content = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(content, format)
    return content.getvalue()


def release(folder: Path, *names: str) -> Path:
    """POPE questions, the first about a whole image, the others about images of these names, which are not there."""
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "whole.png").write_bytes(encoded("PNG"))
    questions = [
        {"question_id": number, "image": name, "text": "Is it?", "label": "no"}
        for number, name in enumerate(("whole.png", *names), 1)
    ]
    (folder / "coco_pope_random.json").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return folder


def prepare(source: Path, root: Path) -> int:
    return main(["data", "prepare", "pope", "--source", str(source), "--out", str(root)])


def left_out(root: Path) -> list[str]:
    manifest = json.loads((root / "pope" / MANIFEST).read_text())
    assert manifest["splits"]["random"]["rows"] + len(manifest["left_out"]) > 1
    return [entry["reason"] for entry in manifest["left_out"]]


def broken_dds() -> bytes:
    """Of a pixel format for which Pillow raises NotImplementedError as soon as it sees the file."""
    content = bytearray(encoded("DDS"))
    content[80:88] = b"\x04\0\0\0????"
    return bytes(content)


def broken_tiff() -> bytes:
    """Pillow raises TypeError when it decodes: the place of its pixels is a text."""
    content = bytearray(encoded("TIFF"))
    content[content.index((273).to_bytes(2, "little"), 10) + 2] = 2
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", POSTSCRIPT, broken_dds(), broken_tiff(), encoded("AVIF")[:-30], encoded("JPEG2000")[:90]],
    ids=["empty", "text", "postscript", "dds", "tiff", "avif", "jpeg2000"],
)
def test_an_image_that_no_decoder_reads_costs_its_row(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ghostscript_log(tmp_path, monkeypatch)
    source, root = release(tmp_path / "source", "bad.jpg"), tmp_path / "root"
    (source / "images" / "bad.jpg").write_bytes(content)
    assert prepare(source, root) == 1
    assert left_out(root)[0].startswith("image bad.jpg: ")
    assert not log.exists()


def test_what_a_decoder_raises_costs_the_row_whatever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders of other Pillow releases fail in other ways."""
    source, root = release(tmp_path / "source", "bad.bmp"), tmp_path / "root"
    (source / "images" / "bad.bmp").write_bytes(encoded("BMP"))
    load = ImageFile.ImageFile.load

    def fail(image: ImageFile.ImageFile) -> object:
        if image.format == "BMP":
            raise NotImplementedError("no such compression")
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert prepare(source, root) == 1
    assert "image bad.bmp: NotImplementedError: no such compression" in left_out(root)


def test_pipes_devices_and_folders_are_named_and_never_waited_for(tmp_path: Path) -> None:
    names = ("pipe.jpg", "device.jpg", "folder.jpg", "loop.jpg", "nothing.jpg")
    source, root = release(tmp_path / "source", *names), tmp_path / "root"
    images = source / "images"
    os.mkfifo(images / "pipe.jpg")
    (images / "device.jpg").symlink_to("/dev/zero")
    (images / "folder.jpg").mkdir()
    (images / "loop.jpg").symlink_to("loop.jpg")
    (images / "nothing.jpg").symlink_to("gone.jpg")
    assert prepare(source, root) == 1
    reasons = left_out(root)
    assert len(reasons) == 5
    assert [name for name, reason in zip(names, reasons, strict=True) if f"image {name} " not in reason] == []
    assert sum("it is not a regular file" in reason for reason in reasons) == 2


def test_a_pipe_for_a_question_file_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = release(tmp_path / "source")
    (source / "coco_pope_random.json").unlink()
    os.mkfifo(source / "coco_pope_random.json")
    assert prepare(source, tmp_path / "root") == 2
    assert "no coco_pope_{random,popular,adversarial}.json below" in capsys.readouterr().err
    os.mkfifo(tmp_path / "questions.json")
    arguments = ["--questions", str(tmp_path / "questions.json"), "--out", str(tmp_path / "out.jsonl")]
    assert main(["data", "gqa-mcq", *arguments]) == 2
    assert "questions.json cannot be read: it is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("length", [247, 248, 251])
def test_long_names_are_stored(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ü" * 20 + "a" * (length - 40) + ".png"
    source, root = release(tmp_path / "source", name), tmp_path / "root"
    (source / "images" / name).write_bytes(encoded("PNG"))
    assert prepare(source, root) == 0
    monkeypatch.setenv("DUALFOCUS_DATA", str(root))
    assert image_of({"bytes": None, "path": f"pope/images/{name}"}).size == (24, 16)


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31mb.png", "a\rb.png", os.fsdecode(b"a\xffb.png")])
def test_names_that_no_list_of_files_can_hold_are_left_out(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, root = release(tmp_path / "source", name), tmp_path / "root"
    (source / "images" / name).write_bytes(encoded("PNG"))
    assert prepare(source, root) == 1
    (reason,) = left_out(root)
    assert "rename the file" in reason
    assert [path.name for path in (root / "pope" / "images").iterdir()] == ["whole.png"]
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert shown.rstrip("\n").isprintable()
    assert main(["data", "verify", "pope", "--out", str(root)]) == 1
    assert "rename the file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["so\nurce", "so\x1b[31murce", os.fsdecode(b"so\xffurce")])
def test_folders_with_odd_names_are_shown_on_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(release(tmp_path / name), tmp_path / "root" / name) == 0
    assert prepare(tmp_path / name / "images", tmp_path / "root") == 2
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert len(shown.err.splitlines()) == 1


def test_folders_behind_links_are_searched_once(tmp_path: Path) -> None:
    """As COCO's usually are; a link that leads back up ends nothing."""
    source, root = release(tmp_path / "source", "far.png", "near.png"), tmp_path / "root"
    (tmp_path / "coco" / "val2014").mkdir(parents=True)
    (tmp_path / "coco" / "val2014" / "far.png").write_bytes(encoded("PNG"))
    (tmp_path / "coco" / "up").symlink_to(tmp_path)
    (source / "coco").symlink_to(tmp_path / "coco")
    (source / "again").symlink_to(source / "images")
    (source / "images" / "near.png").write_bytes(encoded("PNG"))
    assert prepare(source, root) == 0
    assert len(list((root / "pope" / "images").iterdir())) == 3


def test_two_preparations_of_one_folder_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    with sole_writer(root / "pope"):
        assert prepare(source, root) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"another process is writing to {root / 'pope'}" in line
        assert sorted(path.name for path in (root / "pope").iterdir()) == [".lock"]
    assert prepare(source, root) == 0
    with sole_writer(root / "pope"):
        assert prepare(source, root) == 0  # it is there already


def test_damage_behind_a_preparation_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, root = release(tmp_path / "source"), tmp_path / "root"
    assert prepare(source, root) == 0
    stored = root / "pope" / "images" / "whole.png"
    stored.unlink()
    os.mkfifo(stored)
    capsys.readouterr()
    assert main(["data", "verify", "pope", "--out", str(root)]) == 1
    assert "whole.png is missing or cannot be read" in capsys.readouterr().err
    assert prepare(source, root) == 0
    assert stored.is_file()
