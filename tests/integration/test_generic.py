"""Models that only the generic family knows, from lmms-eval's command line to the results, and asked from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import dualfocus_eval as df
from tests.integration.conftest import Run
from tests.random_checkpoints import save_random_checkpoint


@pytest.fixture(params=["mistral3", "lfm2_vl"])
def generic(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_random_checkpoint(tmp_path / request.param, request.param)


def test_a_run_and_its_repetition(run_here: Run, generic: Path, tmp_path: Path) -> None:
    settings = f"pretrained={generic},device=cpu,batch_size=8"
    tasks = ["--tasks", "df_pope_mini,df_scenes_mini", "--limit", "20", "--model_args"]
    done = run_here(*tasks, f"{settings},trace_dir={tmp_path / 'traces'}", output="first")
    assert done.status == 0
    summary = done.record["summary"]
    assert (summary["questions"], summary["failures"], summary["tokens_reused"]) == (80, {}, 0)
    assert summary["boxes_parsed"] > 10
    assert summary["both_candidates"] > 10
    assert f"no prefix reuse: {generic.name} runs in transformers' generate" in done.output
    (warning,) = done.record["warnings"]
    assert f"{generic.name} may not be trained to write boxes" in warning
    assert warning in done.output

    again = run_here(*tasks, f"{settings},trace_dir={tmp_path / 'traces'}", output="again")
    assert again.record["summary"]["resumed"] == 80
    assert again.answers == done.answers


def test_asked_from_python(tmp_path: Path) -> None:
    generic = save_random_checkpoint(tmp_path / "mistral3", "mistral3")
    with pytest.warns(UserWarning, match="may not be trained to write boxes"):
        model = df.load(generic, device="cpu", batch_size=4)
    image = Image.linear_gradient("L").resize((90, 60)).convert("RGB")
    asked = [(image, f"is there a red cup {number}") for number in range(3)]
    together = model.ask_batch(asked, max_new_tokens=6)
    alone = [model.ask(image, question, max_new_tokens=6) for _, question in asked]
    assert [str(answer) for answer in together] == [str(answer) for answer in alone]
    assert any(answer.box for answer in together)
