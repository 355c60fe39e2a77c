"""The GPU script at its small size: the same steps on a CPU. Nothing here looks at times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dualfocus_eval.engines.image_inputs import image_inputs
from measurements.gpu.__main__ import carry_out, main, measure
from measurements.gpu.page import PAGE, block
from measurements.gpu.rows import Agreement, Exactness, Findings, Phase, Row, Timing
from measurements.gpu.runs import Workload, large_checkpoint, run_questions
from measurements.gpu.steps import FULL, SMALL, Step, steps
from measurements.performance_page import SINGLE
from measurements.random_models import ARCHITECTURES
from measurements.sized_models import skeleton


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, str]:
    """What the small plan finds, and the page."""
    folder = tmp_path_factory.mktemp("gpu")
    findings = measure(SMALL, folder)
    return findings, (folder / PAGE.name).read_text(encoding="utf-8")


def test_every_step_gives_rows(measured: tuple[Findings, str]) -> None:
    findings, _ = measured
    assert findings.missing == []
    assert findings.sound
    assert {type(row) for row in findings.rows} == {step.kind for step in steps(SMALL)}


def test_small_models_are_exact(measured: tuple[Findings, str]) -> None:
    found = [row for row in measured[0].rows if isinstance(row, Exactness)]
    assert [row.model for row in found] == list(SMALL.architectures)
    assert all(row.holds and row.differing == 0 and row.rows == 15 for row in found)


def test_every_system_is_timed_at_every_load(measured: tuple[Findings, str]) -> None:
    found = [row for row in measured[0].rows if isinstance(row, Timing)]
    places = [(row.model, row.system, row.per_image, row.batch, row.cache) for row in found]
    assert len(set(places)) == len(places)
    runs = [("llava tiny", 1), ("llava tiny", 6), ("qwen2_5_vl tiny", 1)]
    wanted = {
        (model, system, per_image, batch, 2.0)
        for model, per_image in runs
        for system in ("dualfocus", "dualfocus, macro only")
        for batch in SMALL.loads
    }
    wanted |= {("llava tiny", SINGLE, per_image, 1, None) for per_image in (1, 6)}
    assert set(places) == wanted | {(model, "dualfocus", 1, 2, 32.0) for model in ("llava tiny", "qwen2_5_vl tiny")}
    assert all(row.seconds > 0 and row.questions == SMALL.loads[row.batch] for row in found)
    assert all(0 < (row.reused or 0) < 1 for row in found if row.system == "dualfocus")


def test_half_precision_is_compared_for_every_model(measured: tuple[Findings, str]) -> None:
    found = [row for row in measured[0].rows if isinstance(row, Agreement)]
    models = (*SMALL.architectures, "llava tiny", "qwen2_5_vl tiny")
    assert {(row.model, row.dtype, row.setting) for row in found} == {
        (model, dtype, f"batch 2, cache {cache}")
        for model in models
        for dtype in ("bfloat16", "float16")
        for cache in ("off", "on")
    }
    assert all(row.answers == 6 and row.failed == 0 for row in found)


def test_phases_make_up_the_whole(measured: tuple[Findings, str]) -> None:
    found = [row for row in measured[0].rows if isinstance(row, Phase)]
    runs = {(row.model, row.batch) for row in found}
    assert runs == {(model, batch) for model in ("llava tiny", "qwen2_5_vl tiny") for batch in SMALL.loads}
    for run in runs:
        parts = {row.phase: row for row in found if (row.model, row.batch) == run}
        whole = parts.pop("all")
        assert sum(part.seconds for part in parts.values()) == pytest.approx(whole.seconds)
        assert {phase for phase, part in parts.items() if part.outside is not None} == {"vision", "prefill", "decode"}
        assert all(0 < part.outside < 1 for part in (whole, parts["decode"]) if part.outside is not None)


def test_the_page_shows_all(measured: tuple[Findings, str]) -> None:
    findings, text = measured
    for heading in ("Exactness in float32", "Time and memory", "Agreement in half precision", "Time per phase"):
        assert f"## {heading}" in text
    assert text.count("\n| llava") + text.count("\n| qwen2_5_vl") == len(findings.rows)
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "has not been run" not in text


def test_a_failure_and_a_lack_of_time_are_named_and_lose_nothing() -> None:
    def failing() -> Sequence[Row]:
        raise torch.OutOfMemoryError("CUDA out of memory\nand more")

    exact = Exactness("llava", 15, 144, 1e-5, 0, 0, True)
    todo = [
        Step(Exactness, "first", failing),
        Step(Exactness, "second", lambda: [exact]),
        Step(Phase, "third", failing),
    ]
    time = iter([True, True, False])
    pages: list[str] = []
    findings = carry_out(todo, lambda: next(time), lambda found: pages.append(block(found, "cpu")))
    assert not findings.sound
    assert len(pages) == 3
    assert "| first | failed: OutOfMemoryError: CUDA out of memory | " in pages[0]
    assert "| llava | 15 | 144 |" in pages[1]
    assert "| third | not measured: out of time | " in pages[2]


def test_what_is_not_exact_is_not_sound() -> None:
    assert Findings([Exactness("llava", 15, 144, 1e-5, 0, 0, True)]).sound
    assert not Findings([Exactness("llava", 15, 144, 1.0, 0, 3, False)]).sound


def test_the_command_without_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--small", "--minutes", "0", "--out", str(tmp_path)]) == 0
    assert "out of time, not measured: llava; " in capsys.readouterr().err
    text = (tmp_path / PAGE.name).read_text(encoding="utf-8")
    assert text.count("not measured: out of time") == len(list(steps(SMALL)))


def test_every_answer_takes_all_its_tokens() -> None:
    for architecture in ("llava", "qwen2_5_vl"):
        checkpoint = large_checkpoint(architecture, "tiny", "cpu", torch.float32)
        traces, _ = run_questions(checkpoint, Workload.of(2, 1, SMALL.sides[architecture]), 2, 1 << 30)
        for trace in traces:
            assert trace.macro
            assert trace.grounding
            assert trace.grounding.response
            assert trace.micro
            found = (trace.macro, trace.grounding.response, trace.micro)
            assert [len(completion.token_ids) for completion in found] == [4, 16, 4]


@pytest.mark.parametrize(
    ("architecture", "parameters", "tokens"), [("llava", 7_063_427_072, 576), ("qwen2_5_vl", 8_292_166_656, 1_200)]
)
def test_the_full_size_is_that_of_the_released_models(architecture: str, parameters: int, tokens: int) -> None:
    model, processor = skeleton(architecture, "7b", "meta", torch.bfloat16)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    work = Workload.of(1, 1, FULL.sides[architecture])
    assert image_inputs(processor, work.asked[0].images[0].pixels).tokens == tokens
    assert f"{parameters:,}" in PAGE.read_text(encoding="utf-8")
    assert f"{tokens:,} tokens" in PAGE.read_text(encoding="utf-8")


def test_the_full_plan_covers_every_architecture() -> None:
    exact = [step.name for step in steps(FULL) if step.kind is Exactness]
    assert exact == list(ARCHITECTURES)
