"""The pictures of a report are what the model saw, and an image that cannot be opened is counted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from dualfocus_eval.report.sections.questions import _pictures
from tests.postscript import POSTSCRIPT, ghostscript_log


def test_pictures_are_opened_as_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ghostscript_log(tmp_path, monkeypatch)
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT)
    visuals = [
        lambda: [Image.new("RGBA", (4, 4), (0, 0, 0, 0))],
        lambda: [Image.open(tmp_path / "a.jpg")],
        lambda: [Image.open(tmp_path / "a.jpg").convert("RGB")],
    ]
    task = SimpleNamespace(eval_docs=visuals, doc_to_visual=lambda doc: doc())
    rows = pd.DataFrame({"task": "t", "doc_id": [0, 1, 2], "crop_left": [0.0, 0.0, 0.0]})
    run: Any = SimpleNamespace(tasks={"t": task})
    found, unopened = _pictures(run, {"gained": rows})
    assert unopened == 2
    assert [picture.getpixel((0, 0)) for _, _, picture in found] == [(255, 255, 255)]
    assert not log.exists()
