"""Runs to be inspected: made up, with real pictures beside their traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dualfocus_eval.analysis.pairing import pair_runs
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.report.inspector_pair import write_pair
from dualfocus_eval.report.writing import report_run
from dualfocus_eval.tiny.effect import SCENES
from dualfocus_eval.traces.pictures import PictureStore
from dualfocus_eval.traces.record import Pathway, Trace
from tests.analysis.runs import SIZE, Answered, answered, failing, read_with, scene, write_run

COLORS = ("red", "blue", "green", "teal")
KINDS = (("mark_color", "detail"), ("count", "global"), ("relation", "global"))
LONG = "x" * 10_000
HOSTILE = (
    "<script>document.title='hacked'</script>",
    "<img src=x onerror=\"document.title='hacked'\">",
    "javascript:document.title='hacked'",
    "'\"></style></script><h1>",
    LONG,
    "\u202egnirts \u202d\u2066 \u200b\u200d\ufeff",
    "שלום עולם مرحبا",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "$(rm -rf ~) `id` ; echo 'x' \\ \n\x03\x1b[31m",
    "__proto__",
)
"""Texts that a page must show as texts."""


def pictures(number: int) -> list[Picture]:
    """Different images of the size that the made-up traces have."""
    shades = np.linspace(0, 255, SIZE[0], dtype=np.uint8)
    rows = np.broadcast_to(shades[:, None], (SIZE[1], SIZE[0], 3)).copy()
    return [Picture(Image.fromarray(np.roll(rows, 40 * place, axis=1))) for place in range(number)]


def some(count: int, *, flipped: bool = False) -> list[Answered]:
    """Questions of every outcome; with ``flipped`` some are answered otherwise."""
    images = [picture.digest for picture in pictures(5)]
    found = []
    for number in range(count):
        kind, level = KINDS[number % 3]
        doc = scene(
            number, COLORS[number % 4], kind=kind, level=level, question=f"What color is thing number {number}?"
        )
        micro = None if number % 7 == 6 else COLORS[(number + (number // 2) % 2) % 4]
        pick: Pathway = "micro" if (number % 3 == 0) != (flipped and number % 5 == 0) else "macro"
        side = 0.1 + 0.02 * (number % 20)
        one = answered(
            SCENES, doc, COLORS[(number // 2) % 4], micro, doc_id=number, image=images[number % 5],
            picks={"own_context": pick, "micro_context": pick, "released": pick},
            box=Box(0.05, 0.1, 0.05 + side, 0.1 + side), nlls=(0.2 + 0.03 * (number % 11), 0.1 + 0.05 * (number % 6)),
        )  # fmt: skip
        found.append(failing(one) if number % 19 == 18 else one)
    return found


def hostile() -> list[Answered]:
    """Questions whose every text is hostile, one whose sub-region leaves its image, one whose answers are empty, and
    two whose pictures are gone."""
    image = pictures(1)[0].digest
    found = [
        answered(SCENES, scene(place, text, question=text, kind=text), text, f"{text} too", doc_id=place, image=image)
        for place, text in enumerate(HOSTILE)
    ]
    outside = answered(SCENES, scene(90, "red"), "red", "blue", doc_id=90, image=image)
    found.append(replace(outside, trace=_with_crop(outside.trace, Crop(300, 100, 5_000, 190))))
    found.append(answered(SCENES, scene(93, "red"), "", " ", doc_id=93, image=image))
    found.append(answered(SCENES, scene(91, "red"), "red", "blue", doc_id=91, image="f" * 32))
    found.append(answered(SCENES, scene(92, "red"), "red", "blue", doc_id=92, image="../../../etc/passwd"))
    return found


def _with_crop(trace: Trace, crop: Crop) -> Trace:
    assert trace.grounding
    return replace(trace, grounding=replace(trace.grounding, crop=crop))


def run_at(folder: Path, answers: Sequence[Answered], *, kept: bool = True, **engine: Any) -> Run:
    """A run whose files are in ``folder``, with its pictures unless ``kept`` is false."""
    write_run(folder, answers, **engine)
    path = folder / "1_results.json"
    results = json.loads(path.read_text())
    for config in results["configs"].values():
        config["metadata"] = {"dualfocus": {"stem": "question", "answer": "short", "box": "box"}}
    path.write_text(json.dumps(results))
    with closing(PictureStore(folder / "traces", 768 if kept else None)) as store:
        store.keep(pictures(5))
    return read_with(folder, answers)


def report_at(folder: Path, answers: Sequence[Answered], *, kept: bool = True) -> tuple[Run, Path]:
    """A run and the inspector's page of its report."""
    run = run_at(folder / "run", answers, kept=kept)
    return run, report_run(run, folder / "report").with_name("inspect.html")


def pair_at(folder: Path, count: int) -> tuple[Run, Run, Path]:
    """Two runs, and the page that shows both."""
    first = run_at(folder / "a", some(count))
    second = run_at(folder / "b", some(count, flipped=True), rule="micro_context")
    return first, second, write_pair(first, second, pair_runs(first, second).rows, "A and B", folder / "page")
