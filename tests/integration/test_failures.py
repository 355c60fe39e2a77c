"""What goes wrong is named, counted and seen in the exit status, and costs nothing else."""

from __future__ import annotations

import io
import resource
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from tests.integration.conftest import Run, read_traces

YAML = """
task: {name}
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: data.parquet}}}}
test_split: test
output_type: {output_type}
doc_to_visual: image
doc_to_text: question
doc_to_target: answer
{more}
"""


def png(grey: int) -> dict[str, Any]:
    file = io.BytesIO()
    PILImage.new("RGB", (40, 30), (grey, 90, 200 - grey)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write_task(folder: Path, output_type: str = "generate_until", more: str = "", **rows: list[Any]) -> Path:
    folder.mkdir()
    count = len(rows["question"])
    images = {"image": [png(20 * number) for number in range(count)], "answer": ["x"] * count}
    columns = {**images, **rows}
    features = Features({name: Image() if name == "image" else Value("string") for name in columns})
    Dataset.from_dict(columns, features=features).to_parquet(folder / "data.parquet")
    (folder / "mine.yaml").write_text(YAML.format(name="mine", output_type=output_type, more=more))
    return folder


EXACT_MATCH = """
generation_kwargs: {max_new_tokens: 4, until: null}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def test_one_bad_image_and_one_empty_question_fail_alone(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    broken = {"bytes": b"not an image at all", "path": None}
    folder = write_task(
        tmp_path / "tasks",
        more=EXACT_MATCH,
        question=["Is it red?", "Is it green?", " ", "Is it blue?"],
        image=[png(1), broken, png(2), png(3)],
    )
    done = run(
        "dualfocus", "eval", "--model_args", f"pretrained={checkpoint}", "--tasks", "mine",
        "--include_path", folder, "--batch_size", "4",
    )  # fmt: skip
    assert done.status == 1
    assert done.record["summary"]["failures"] == {"bad_image": 1, "empty_question": 1}
    assert [bool(done.answers["mine", number]) for number in range(4)] == [True, False, False, True]
    assert "mine/1 failed: bad_image" in done.output
    assert done.record["tasks"] == {"mine": {"questions": 4, "failures": {"bad_image": 1, "empty_question": 1}}}
    assert done.scores["mine"]["failed,none"] == 2
    kinds = [(sample["dualfocus"]["failure"] or {}).get("kind") for sample in done.samples.values()]
    assert kinds == [None, "bad_image", "empty_question", None]
    said = done.output.index("dualfocus: 2 of 4 questions failed (bad_image 1, empty_question 1)")
    assert said < done.output.index("|mine (2 of 4 questions FAILED)|")
    assert done.output.splitlines()[-1].startswith("dualfocus eval: 2 of 4 questions failed")
    assert Path(done.record["traces"]) == tmp_path / "output" / "traces"
    assert sum(trace["error"] is not None for trace in read_traces(tmp_path / "output" / "traces")) == 2


def test_a_full_disk_costs_no_answer_and_the_rest_is_stored_later(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    command = [
        "dualfocus", "eval", "--model_args", f"pretrained={checkpoint},trace_dir={traces}",
        "--tasks", "df_pope_mini_random", "--limit", "24", "--batch_size", "4",
    ]  # fmt: skip
    undisturbed = run(*command[:3], f"pretrained={checkpoint},trace_dir={tmp_path / 'other'}", *command[4:], output="a")
    assert undisturbed.status == 0
    size = (tmp_path / "other" / "traces.rank0000.jsonl").stat().st_size

    def half_full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    full = run(*command, output="b", before=half_full)
    stored = len(read_traces(traces))
    assert full.status == 1
    assert 0 < stored < 24
    assert "answers that could not be stored" in full.output
    assert full.answers == undisturbed.answers

    later = run(*command, output="c")
    assert later.status == 0
    assert later.record["summary"]["resumed"] == stored
    assert later.answers == undisturbed.answers
    assert len(read_traces(traces)) == 24

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    cut = run(*command, output="d", before=no_room, read=False)
    assert cut.status == 1
    results, samples = cut.output.splitlines()[-2:]
    assert results.startswith("dualfocus eval: ")
    assert "_results.json is damaged: it has 3,000 bytes" in results
    assert "_samples_df_pope_mini_random.jsonl is damaged: row" in samples


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--tasks", "df_pope_mini_random", "--gen_kwargs", "temperature=0.7"], 2, "temperature=0.7 is not supported"),
        (["--tasks", "df_pope_mini_random", "--gen_kwargs", "max_new_tokens=few"], 2, "='few' is not a number"),
        (["--tasks", "no_such_task"], 2, "error: Tasks not found: no_such_task"),
        (["--tasks", "list"], 0, "df_scenes_mini"),
    ],
    ids=["sampling", "text for a number", "unknown task", "list"],
)
def test_exit_status(run_here: Run, checkpoint: Path, arguments: list[str], status: int, words: str) -> None:
    done = run_here("--model_args", f"pretrained={checkpoint}", *arguments)
    assert done.status == status, done.output
    assert words in done.output
    assert "Traceback" not in done.output


def test_a_checkpoint_that_lacks_files_is_a_plain_message(run_here: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_here("--model_args", f"pretrained={tmp_path / 'empty'}", "--tasks", "df_scenes_mini")
    assert done.status == 2
    assert "config.json is missing" in done.output
    assert "Traceback" not in done.output


MULTIPLE_CHOICE = """
doc_to_choice: ["red", "a dark green"]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def test_likelihoods_in_either_pathway_but_not_between_them(run_here: Run, checkpoint: Path, tmp_path: Path) -> None:
    folder = write_task(
        tmp_path / "tasks",
        "multiple_choice",
        MULTIPLE_CHOICE,
        question=["Is it?", "Which?", "What?"],
        answer=["red"] * 3,
    )
    shared = ["--tasks", "mine", "--include_path", folder, "--force_simple", "--batch_size", "2"]
    ranked = {}
    for strategy in ("macro", "micro"):
        arguments = f"pretrained={checkpoint},strategy={strategy}"
        done = run_here("--model_args", arguments, *shared, output=strategy)
        assert done.status == 0, done.output
        ranked[strategy] = [done.samples["mine", number]["filtered_resps"] for number in range(3)]
        assert all(float(nll) > 0 for choices in ranked[strategy] for nll, _ in choices)
        best = [min(range(2), key=lambda choice: float(choices[choice][0])) for choices in ranked[strategy]]
        assert done.scores["mine"]["acc,none"] == pytest.approx(best.count(0) / 3)
    assert ranked["macro"] != ranked["micro"]
    refused = run_here("--model_args", f"pretrained={checkpoint}", *shared, output="refused")
    assert refused.status == 2
    assert "pass --model_args strategy=macro or strategy=micro" in refused.output
