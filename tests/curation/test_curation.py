"""``dualfocus data vg`` on whole releases: outputs, crops, any order of the files, and bad input."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from dualfocus_eval.cli.main import main
from dualfocus_eval.common.files import sole_writer
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.curation.reasons import EXCLUSIONS, FAULTS, Reason
from dualfocus_eval.curation.tally import PAPER
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.crops import crop_of
from dualfocus_eval.method.images import prepare_picture
from tests.curation.curation_cases import release as hand_written
from tests.postscript import POSTSCRIPT, ghostscript_log

Content = dict[str, Any]
SIZE = (200, 150)


def thing(number: int, name: str, x: int, y: int, w: int, h: int) -> dict[str, Any]:
    return {"object_id": number, "names": [name], "synsets": [f"{name}.n.01"], "x": x, "y": y, "w": w, "h": h}


def question(number: int, image: int, **changes: Any) -> dict[str, Any]:
    record = {"qa_id": number, "image_id": image, "question": f"What is thing {number}?", "answer": "A cup."}
    return record | {"q_objects": [thing(10 * image + number % 2, "cup", 20, 30, 40, 50)], "a_objects": []} | changes


def small(images: int = 4) -> Content:
    """Two questions per image, all kept, boxes [0.10, 0.20, 0.30, 0.53]."""
    numbers = range(1, images + 1)
    return {
        "image_data": [
            {"image_id": n, "width": SIZE[0], "height": SIZE[1], "url": f"x/VG_100K{'_2' * (n % 2)}/{n}.jpg"}
            for n in numbers
        ],
        "objects": [{"image_id": n, "objects": [thing(10 * n, "cup", 20, 30, 40, 50)]} for n in numbers],
        "region_descriptions": [{"id": n, "regions": []} for n in numbers],
        "question_answers": [{"id": n, "qas": [question(2 * n - 1, n), question(2 * n, n)]} for n in numbers],
        "qa_to_region_mapping": {},
    }


def write(folder: Path, content: Content) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in content.items():
        (folder / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    return folder


def pictures(folder: Path, images: int = 4) -> Path:
    for part in ("VG_100K", "VG_100K_2"):
        (folder / part).mkdir(parents=True)
    for n in range(1, images + 1):
        slope = Image.linear_gradient("L").resize(SIZE)
        picture = Image.merge("RGB", (slope, slope.rotate(90).resize(SIZE), Image.new("L", SIZE, 40 * n)))
        picture.save(folder / f"VG_100K{'_2' * (n % 2)}" / f"{n}.jpg", quality=95)
    return folder


def curate(source: Path, out: Path, *more: str, workers: int = 1) -> int:
    arguments = ["data", "vg", "--source", str(source), "--out", str(out), "--workers", str(workers), *more]
    return main(arguments)


def samples(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "samples.json").read_text(encoding="utf-8"))
    return found


def reasons(out: Path) -> dict[Any, str]:
    return {row["qa_id"]: row["reason"] for row in rows(out, "excluded")}


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / f"{name}.parquet").to_pylist()
    return found


def report(out: Path) -> Any:
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_a_sample_is_two_rounds_in_the_released_wording(tmp_path: Path) -> None:
    assert curate(write(tmp_path / "source", small()), tmp_path / "out") == 0
    first = samples(tmp_path / "out")[0]
    assert first == {
        "id": "vg_1",
        "image": "VG_100K_2/1.jpg",
        "sub_image": "crops/0/1_0_5_90_105.jpg",
        "box": [0.1, 0.2, 0.3, 0.533333],
        "crop": [0, 5, 90, 105],
        "box_from": "objects",
        "width": 200,
        "height": 150,
        "question": "What is thing 1?",
        "answer": "A cup.",
        "conversations": [
            {
                "from": "human",
                "value": "<image>\nPlease provide the bounding box coordinate of the region this question asks: "
                "What is thing 1?",
            },
            {"from": "gpt", "value": "[0.10, 0.20, 0.30, 0.53]"},
            {
                "from": "human",
                "value": "<image>\nPlease combine the information from these two images and answer this question: "
                "What is thing 1?",
            },
            {"from": "gpt", "value": "A cup."},
        ],
    }


def test_json_and_parquet_say_the_same(tmp_path: Path) -> None:
    assert curate(write(tmp_path / "source", hand_written()), tmp_path / "out") == 0
    table = rows(tmp_path / "out", "samples")
    lines = samples(tmp_path / "out")
    assert len(lines) > 100
    assert [{key: row[key] for key in lines[0]} for row in table] == lines
    assert [f"vg_{row['qa_id']}" for row in table] == [line["id"] for line in lines]
    for line in lines:
        box, size = Box(*line["box"]), (line["width"], line["height"])
        crop = crop_of(box, size)
        assert crop is not None
        assert all(abs(a - b) <= 1 for a, b in zip(vars(crop).values(), line["crop"], strict=True))
        assert line["conversations"][1]["value"] == format_box(box, image_size=size)


def test_the_order_of_the_files_and_the_number_of_processes_change_nothing(tmp_path: Path) -> None:
    content = hand_written()
    assert curate(write(tmp_path / "source", content), tmp_path / "one") == 0
    shuffled = {name: list(rows) if isinstance(rows, list) else rows for name, rows in content.items()}
    for name in ("image_data", "objects", "region_descriptions"):
        random.Random(name).shuffle(shuffled[name])
    assert curate(write(tmp_path / "shuffled", shuffled), tmp_path / "two", workers=3) == 0
    for name in ("samples.json", "samples.parquet", "excluded.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_first_releases_names_of_the_fields_give_the_same(tmp_path: Path) -> None:
    assert curate(write(tmp_path / "source", hand_written()), tmp_path / "one") == 0
    content = hand_written()
    for image in (*content["objects"], *content["image_data"]):
        image["id"] = image.pop("image_id")
    for thing in (entry for image in content["objects"] for entry in image["objects"]):
        thing["id"], thing["name"] = thing.pop("object_id"), (thing.pop("names") or [""])[0]
    for region in (entry for image in content["region_descriptions"] for entry in image["regions"]):
        region["id"], region["image"] = region.pop("region_id"), region.pop("image_id")
    assert curate(write(tmp_path / "old", content), tmp_path / "two") == 0
    for name in ("samples.json", "excluded.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_report_adds_up_and_shows_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert curate(write(tmp_path / "source", hand_written()), out) == 0
    found = report(out)
    assert found["kept"]["samples"] + sum(entry["questions"] for entry in found["excluded"]) == found["read"]
    assert found["kept"]["samples"] == len(samples(out)) == sum(found["kept"]["box_from"].values())
    assert found["kept"]["images"] == len({sample["image"] for sample in samples(out)})
    listed = reasons(out)
    for entry in found["excluded"]:
        ids = [qa_id for qa_id, reason in listed.items() if reason == entry["reason"]]
        assert entry["questions"] == len(ids)
        assert entry["first_ids"] == ids[:20]
    assert set(EXCLUSIONS) == set(Reason)
    assert found["paper"] == PAPER
    assert "143,978" in capsys.readouterr().out
    page = (out / "report.md").read_text(encoding="utf-8")
    assert all(text in page for text in ("143,978", "7,825", f"{found['kept']['samples']:,}", "ambiguous", "person"))
    with Image.open(out / "funnel.png") as figure:
        assert min(figure.size) > 300
    assert not list(out.rglob("*.partial"))


def test_crops_are_those_of_the_method(tmp_path: Path) -> None:
    source, images, out = write(tmp_path / "source", small()), pictures(tmp_path / "images"), tmp_path / "out"
    assert curate(source, out, "--images", str(images), workers=2) == 0
    for sample in samples(out):
        crop = crop_of(Box(*sample["box"]), SIZE)
        assert crop is not None
        with Image.open(images / sample["image"]) as image, Image.open(out / sample["sub_image"]) as cut:
            expected = image.convert("RGB").crop((crop.left, crop.top, crop.right, crop.bottom))
            assert cut.size == expected.size == crop.size
            difference = [abs(a - b) for a, b in zip(cut.tobytes(), expected.tobytes(), strict=True)]
            assert sum(difference) / len(difference) < 1


def test_what_is_cut_and_whole_is_not_cut_again(tmp_path: Path) -> None:
    source, images, out = write(tmp_path / "source", small()), pictures(tmp_path / "images"), tmp_path / "out"
    assert curate(source, out, "--images", str(images)) == 0
    crops = sorted((out / "crops").rglob("*.jpg"))
    contents = [path.read_bytes() for path in crops]
    assert len(crops) == 4
    crops[1].write_bytes(contents[1][:-40])
    crops[2].unlink()
    Image.new("RGB", (3, 3)).save(crops[3])
    (crops[0].parent / "1_0.77.partial").write_bytes(b"left by a kill")
    untouched = crops[0].stat().st_mtime_ns
    assert curate(source, out, "--images", str(images)) == 0
    assert [path.read_bytes() for path in sorted((out / "crops").rglob("*")) if path.is_file()] == contents
    assert crops[0].stat().st_mtime_ns == untouched


@pytest.mark.parametrize("layout", ["", "images", "VG_100K", "images2/VG_100K_2"])
def test_images_are_found_wherever_they_were_unpacked(layout: str, tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    (tmp_path / "images" / layout).mkdir(parents=True, exist_ok=True)
    for path in (tmp_path / "pictures").rglob("*.jpg"):
        path.rename(tmp_path / "images" / layout / path.name)
    assert curate(write(tmp_path / "source", small()), tmp_path / "out", "--images", str(tmp_path / "images")) == 0
    assert all((tmp_path / "images" / sample["image"]).is_file() for sample in samples(tmp_path / "out"))


@pytest.mark.parametrize("lenient", [False, True])  # lmms-eval makes it so
def test_images_that_cannot_be_read_cost_their_samples_only(
    lenient: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", lenient)
    images = pictures(tmp_path / "images", images=5)
    (images / "VG_100K_2/1.jpg").unlink()
    (images / "VG_100K/2.jpg").write_bytes((images / "VG_100K/2.jpg").read_bytes()[:900])
    (images / "VG_100K_2/3.jpg").write_text("no image")
    Image.new("RGB", (10, 10)).save(images / "VG_100K/4.jpg")
    out = tmp_path / "out"
    assert curate(write(tmp_path / "source", small(5)), out, "--images", str(images)) == 1
    assert [sample["id"] for sample in samples(out)] == ["vg_9", "vg_10"]
    assert reasons(out) == dict.fromkeys(range(1, 9), "image_unreadable")
    assert {row["detail"].split(":")[0] for row in rows(out, "excluded")} == {
        "image VG_100K_2/1.jpg is missing",
        "image 2.jpg",
        "image 3.jpg",
        "image 4.jpg is 10x10 pixels, image_data.json says 200x150",
    }


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", ["as shown", "as stored"])
def test_box_and_crop_are_of_the_image_that_training_shows(orientation: int, annotated: str, tmp_path: Path) -> None:
    """Or the question is left out by name, where the image's size does not tell of which frame its boxes are."""
    shown = Image.new("RGB", SIZE, "white")
    shown.paste("red", (20, 30, 60, 80))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = shown
    if annotated == "as shown":
        turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(orientation, [])
        for turn in turns:
            stored = stored.transpose(Image.Transpose(turn))
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images" / "1.png", exif=exif)
    content, out = small(1), tmp_path / "out"
    content["image_data"][0]["file_name"] = "1.png"
    assert curate(write(tmp_path / "source", content), out, "--images", str(tmp_path / "images")) == 0
    if orientation != 1 and not (orientation > 4 and annotated == "as shown"):
        assert reasons(out) == {1: "turned", 2: "turned"}
        assert rows(out, "excluded")[0]["detail"] == f"image 1.png has EXIF orientation {orientation}"
        return
    (sample, _) = samples(out)
    picture = prepare_picture(tmp_path / "images" / sample["image"])  # as training opens it
    assert isinstance(picture, Picture)
    assert picture.pixels.size == (sample["width"], sample["height"]) == SIZE
    assert picture.pixels.crop((20, 30, 60, 80)).getcolors() == [(2000, (255, 0, 0))]
    crop, cut = sample["crop"], prepare_picture(out / sample["sub_image"])
    assert isinstance(cut, Picture)
    assert cut.pixels.getpixel((40 - crop[0], 55 - crop[1])) == pytest.approx((255, 0, 0), abs=6)


def test_a_crop_of_a_turned_image_that_is_there_already_is_not_used(tmp_path: Path) -> None:
    source, images, out = write(tmp_path / "source", small(1)), tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.new("RGB", SIZE).save(images / "1.jpg")
    assert curate(source, out, "--images", str(images)) == 0
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", SIZE).save(images / "1.jpg", exif=exif)
    assert curate(source, out, "--images", str(images)) == 0
    assert set(reasons(out).values()) == {"turned"}


@pytest.mark.parametrize("what", ["postscript", "pipe", "device"])
def test_images_that_are_none_cost_their_samples_only(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, images, out = ghostscript_log(tmp_path, monkeypatch), pictures(tmp_path / "images", 2), tmp_path / "out"
    path = images / "VG_100K_2" / "1.jpg"
    path.unlink()
    if what == "postscript":
        path.write_bytes(POSTSCRIPT)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert curate(write(tmp_path / "source", small(2)), out, "--images", str(images)) == 1
    assert reasons(out) == {1: "image_unreadable", 2: "image_unreadable"}
    assert len(samples(out)) == 2
    assert not log.exists()


def test_two_curations_of_one_folder_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "source", small()), tmp_path / "out"
    with sole_writer(out):
        assert curate(source, out) == 2
    assert f"another process is writing to {out}" in capsys.readouterr().err
    assert curate(source, out) == 0


def test_scenes_can_be_curated(tmp_path: Path) -> None:
    assert main(["data", "scenes", "--out", str(tmp_path / "vg"), "--count", "3"]) == 0
    assert curate(tmp_path / "vg", tmp_path / "out", "--images", str(tmp_path / "vg")) == 0
    found = report(tmp_path / "out")
    assert found["kept"]["images"] == 3
    assert found["files_missing"] == ["qa_to_region_mapping.json"]
    assert all((tmp_path / "out" / sample["sub_image"]).is_file() for sample in samples(tmp_path / "out"))


def test_odd_records_are_counted_by_name_and_the_good_ones_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = small()
    odd = [
        (None, "malformed"), (7, "malformed"), ([], "malformed"), ({}, "no_id"), (question(-1, 1), "no_id"),
        (question(True, 1), "no_id"), (question(100, 1, answer=5), "malformed"),
        (question(101, 1, question=["a"]), "malformed"), (question(102, 2), "malformed"),
        (question(108, 1, answer=False), "malformed"), (question(109, 1, question=[]), "malformed"),
        (question(103, 1, answer="<image>"), "malformed"), (question(104, 1, answer=None), "empty_answer"),
        (question(105, 1, question=None), "empty_question"), (question(2, 1), "duplicate_id"),
        (question(106, 1, qa_id="106"), "kept"), (question(107, 1, image_id=None), "kept"),
    ]  # fmt: skip
    content["question_answers"][0]["qas"] += [record for record, _ in odd]
    content["question_answers"].append({"qas": [question(200, 5)]})
    content["question_answers"].append({"id": 6, "qas": "none"})
    out = tmp_path / "out"
    assert curate(write(tmp_path / "source", content), out, workers=2) == 1
    found = {entry["reason"]: entry["questions"] for entry in report(out)["excluded"]}
    expected = [verdict for _, verdict in odd] + ["no_id"]
    assert {reason: count for reason, count in found.items() if count} == {
        reason: expected.count(reason) for reason in set(expected) - {"kept"}
    }
    assert [sample["id"] for sample in samples(out)] == [f"vg_{n}" for n in (1, 2, 106, 107, 3, 4, 5, 6, 7, 8)]
    shown = capsys.readouterr().err
    assert "has no image id" in shown
    assert "has no list qas" in shown
    assert {reason.value for reason in FAULTS} >= {"no_id", "malformed", "duplicate_id"}


def test_a_question_that_comes_twice_is_kept_once_across_images(tmp_path: Path) -> None:
    content = small()
    content["question_answers"][3]["qas"].append(question(1, 4))
    assert curate(write(tmp_path / "source", content), tmp_path / "out", workers=2) == 1
    assert [sample["image"] for sample in samples(tmp_path / "out") if sample["id"] == "vg_1"] == ["VG_100K_2/1.jpg"]
    assert reasons(tmp_path / "out") == {1: "duplicate_id"}


@pytest.mark.parametrize("name", ["question_answers", "objects", "region_descriptions", "image_data"])
def test_a_file_that_breaks_off_keeps_the_good_rows(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "source", small()), tmp_path / "out"
    text = (source / f"{name}.json").read_text()
    (source / f"{name}.json").write_text(text[:-20])
    assert curate(source, out) == 1
    assert len(samples(out)) == (8 if name == "region_descriptions" else 6)
    assert set(reasons(out).values()) <= {"unchecked", "unknown_image"}
    assert f"{name}.json, byte " in capsys.readouterr().err
    assert report(out)["faults"] == 1


@pytest.mark.parametrize("name", ["question_answers", "objects", "image_data"])
def test_an_element_that_is_damaged_inside_costs_its_image_only(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "source", small()), tmp_path / "out"
    text = (source / f"{name}.json").read_text()
    needle = {"question_answers": '"qa_id": 3', "objects": '"object_id": 20', "image_data": '"image_id": 2'}[name]
    (source / f"{name}.json").write_text(text.replace(needle, f"{needle} oops", 1))
    assert curate(source, out) == 1
    assert {sample["id"] for sample in samples(out)} == {"vg_1", "vg_2", "vg_5", "vg_6", "vg_7", "vg_8"}
    assert "is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["question_answers", "objects", "image_data"])
def test_a_missing_file_is_one_clear_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", small())
    (source / f"{name}.json").unlink()
    assert curate(source, tmp_path / "out") == 2
    assert capsys.readouterr().err.rstrip().endswith(f"{name}.json is missing, a file of Visual Genome's release")
    (source / f"{name}.json.zip").write_bytes(b"")
    assert curate(source, tmp_path / "out") == 2
    assert f"unzip {name}.json.zip first" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["region_descriptions", "qa_to_region_mapping"])
def test_without_regions_questions_have_their_objects(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "source", small())
    (source / f"{name}.json").unlink()
    assert curate(source, tmp_path / "out") == 0
    assert f"{name}.json is missing" in capsys.readouterr().err
    assert report(tmp_path / "out")["files_missing"] == [f"{name}.json"]


@pytest.mark.parametrize(("text", "said"), [("{broken", "is not JSON"), ('{"1": 2, "x": 3, "4": null}', "not a pair")])
def test_a_damaged_mapping_is_named(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", small())
    (source / "qa_to_region_mapping.json").write_text(text)
    assert curate(source, tmp_path / "out") == 1
    assert said in capsys.readouterr().err
    assert len(samples(tmp_path / "out")) == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"question_answers": {}}, "question_answers.json is not a list of images"),
        ({"question_answers": []}, "question_answers.json has no question that can be read"),
        ({"qa_to_region_mapping": []}, "qa_to_region_mapping.json is not an object"),
    ],
)
def test_other_files_are_refused(
    changes: Content, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curate(write(tmp_path / "source", small() | changes), tmp_path / "out") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--margin", "-1"], "margin: -1.0 must be at least 0"),
        (["--margin", "nan"], "margin: nan must be"),
        (["--overlap", "0"], "overlap: 0.0 must be above 0 and at most 1"),
        (["--overlap", "1.5"], "overlap: 1.5 must be"),
        (["--workers", "0"], "--workers 0: must be 1 or more"),
        (["--images", "nowhere"], "--images nowhere is not a folder"),
        (["--recipe", "nothing"], "neither a file nor one of"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curate(write(tmp_path / "source", small(1)), tmp_path / "out", *arguments) == 2
    assert said in capsys.readouterr().err


def test_knobs_come_from_the_recipe_and_options_win(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "source", small(1)), tmp_path / "out"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("inference: {margin: 0, prompt_set: format1, crop: released}\ncuration: {overlap: 0.9}\n")
    assert curate(source, out, "--recipe", str(recipe)) == 0
    assert report(out)["settings"] == {"prompt_set": "format1", "crop": "released", "margin": 0, "overlap": 0.9}
    sample = samples(out)[0]
    assert sample["crop"] == [15, 30, 65, 80]
    assert sample["conversations"][0]["value"].startswith("<image>\nProvide the coordinates")
    assert curate(source, out, "--recipe", str(recipe), "--margin", "5", "--overlap", "0.4") == 0
    assert report(out)["settings"] == {"prompt_set": "format1", "crop": "released", "margin": 5, "overlap": 0.4}
    recipe.write_text("curation: {overlaps: 0.9}\n")
    assert curate(source, out, "--recipe", str(recipe)) == 2
    assert "curation: unknown key 'overlaps'. Did you mean overlap?" in capsys.readouterr().err


def test_the_overlap_decides_what_counts_as_inside(tmp_path: Path) -> None:
    content = small(1)
    content["objects"][0]["objects"].append(thing(99, "cup", 40, 30, 40, 50))
    source = write(tmp_path / "source", content)
    assert curate(source, tmp_path / "out", "--overlap", "0.5") == 0
    assert len(samples(tmp_path / "out")) == 2
    assert curate(source, tmp_path / "out", "--overlap", "0.51") == 0
    assert reasons(tmp_path / "out") == {1: "ambiguous", 2: "ambiguous"}
