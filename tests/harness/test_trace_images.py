"""A run keeps its images beside its traces, at no cost to any answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.harness.session import Session
from dualfocus_eval.method.question import Question
from tests.full_disk import file_size_limit

NOISE = np.random.default_rng(0).integers(0, 256, (3, 400, 900, 3), dtype=np.uint8)
QUESTIONS = [
    Question(f"task/{number}", f"what is {what}", f"what is {what}", (Picture(Image.fromarray(NOISE[number // 2])),))
    for number, what in enumerate(("left", "right", "above", "below"))
]
DIGESTS = {question.images[0].digest for question in QUESTIONS}


def run(checkpoint: Path, traces: Path, **arguments: Any) -> tuple[Session, list[str]]:
    session = Session(
        resolve({"pretrained": str(checkpoint), "trace_dir": str(traces), "strategy": "macro", **arguments}),
        Accelerator(),
    )
    ((_, found),) = session.answered([("all", QUESTIONS)])
    session.finish()
    return session, [trace.text for trace in found]


def counts(session: Session) -> dict[str, Any]:
    assert session._finished
    found: dict[str, Any] = session._finished[0]["summary"]
    return found


def sizes(traces: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in (traces / "images").glob("*"):
        with Image.open(path) as image:
            found[path.name] = image.size
    return found


@pytest.mark.parametrize(
    ("value", "size"), [(None, (768, 341)), ("768", (768, 341)), (768, (768, 341)), ("full", (900, 400))]
)
def test_each_image_is_kept_once(checkpoint: Path, tmp_path: Path, value: str | int | None, size: Any) -> None:
    run(checkpoint, tmp_path, **({} if value is None else {"trace_images": value}))
    assert sizes(tmp_path) == {f"{digest}.jpg": size for digest in DIGESTS}


@pytest.mark.parametrize("value", ["off", False])  # YAML's off
def test_off_keeps_none(checkpoint: Path, tmp_path: Path, value: str | bool) -> None:
    run(checkpoint, tmp_path, trace_images=value)
    assert [path.name for path in tmp_path.iterdir()] == ["traces.rank0000.jsonl"]


def test_a_wrong_value_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UserError, match="trace_images: '512' is not one of: off, 768, full"):
        resolve({"pretrained": str(checkpoint), "trace_images": 512})


def test_a_rerun_with_stored_answers_fills_in_what_is_missing(checkpoint: Path, tmp_path: Path) -> None:
    _, before = run(checkpoint, tmp_path, trace_images="off")
    session, after = run(checkpoint, tmp_path)
    assert (counts(session)["resumed"], after) == (4, before)
    assert len(sizes(tmp_path)) == 2


def test_a_full_disk_costs_the_pictures_and_no_answer(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with file_size_limit(20_000):
        session, answers = run(checkpoint, tmp_path)
    assert counts(session)["pictures_unwritten"] == {"EFBIG": 2}
    assert (counts(session)["unwritten"], counts(session)["failures"], len(answers)) == (0, {}, 4)
    shown = capsys.readouterr().out
    assert "pictures that could not be stored" in shown
    assert "EFBIG" in shown
    assert sizes(tmp_path) == {}
