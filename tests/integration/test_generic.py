"""A model that only the generic family knows, from the command line to the results and back, and asked from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import dualfocus_eval as df
from tests.integration.conftest import Run
from tests.random_checkpoints import save_random_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "lfm2_vl", "lfm2_vl")


def test_a_run_says_what_it_lacks_and_its_answers_serve_again(run_here: Run, checkpoint: Path, tmp_path: Path) -> None:
    settings = f"pretrained={checkpoint},device=cpu,batch_size=8,trace_dir={tmp_path / 'traces'}"
    tasks = ["--tasks", "df_scenes_mini", "--limit", "8", "--gen_kwargs", "max_new_tokens=8", "--model_args", settings]
    done = run_here(*tasks, output="first")
    assert done.status == 0
    summary = done.record["summary"]
    assert (summary["questions"], summary["failures"], summary["tokens_reused"]) == (8, {}, 0)
    assert done.record["no_prefix_reuse"].startswith("lfm2_vl runs in transformers' generate")
    assert "no prefix reuse: lfm2_vl runs in transformers' generate" in " ".join(done.output.split())
    (warning,) = done.record["warnings"]
    assert "lfm2_vl may not be trained to write boxes" in warning
    assert warning in done.output

    again = run_here(*tasks, output="again")
    assert again.record["summary"]["resumed"] == 8
    assert again.answers == done.answers


def test_asked_from_python(checkpoint: Path) -> None:
    with pytest.warns(UserWarning, match="may not be trained to write boxes"):
        model = df.load(checkpoint, device="cpu", batch_size=4)
    image = Image.linear_gradient("L").resize((90, 60)).convert("RGB")
    asked = [(image, f"is there a red cup {number}") for number in range(3)]
    together = model.ask_batch(asked, max_new_tokens=6)
    alone = [model.ask(image, question, max_new_tokens=6) for _, question in asked]
    assert [str(answer) for answer in together] == [str(answer) for answer in alone]
    assert any(answer.box for answer in together)
