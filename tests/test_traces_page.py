"""docs/traces.md: it has every field of the trace format and no other, and its example runs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from dualfocus_eval.engines import base
from dualfocus_eval.traces import record

PAGE = (Path(__file__).parent.parent / "docs" / "traces.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE))
COMPLETION = record.Completion("red", (40, 2), (-0.5, -0.25), "eos")


@pytest.mark.parametrize("name", SECTIONS)
def test_every_field_is_explained(name: str) -> None:
    explained = re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE)
    assert explained == [field.name for field in dataclasses.fields(getattr(record, name, None) or getattr(base, name))]


def test_every_part_of_a_trace_has_a_section() -> None:
    parts = {"Completion", "Thinking", "Grounding", "Box", "Crop", "ContextScores", "ImageInfo", "Failure", "Cost"}
    assert set(SECTIONS) == {"Trace", *parts}


def test_every_fallback_and_decision_is_named() -> None:
    for name in [*record.Fallback, *record.Decision]:
        assert f"`{name}`" in SECTIONS["Trace"]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    alone = record.Trace("pope/0", "d", "s", "yes_no", (), macro=COMPLETION, selected="macro", fallback="no_image")
    pair = dataclasses.replace(alone, key="pope/1", micro=COMPLETION, fallback=None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "traces.rank0000.jsonl").write_text(f"{alone.to_json()}\n{pair.to_json()}\n")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert "questions: 2  with both answers: 1" in capsys.readouterr().out
