"""The model class in this process, over a small checkpoint: order, batches, repeats, padding, refusals."""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Image, Value
from lmms_eval.api.instance import Instance, unwrap_generation_output
from lmms_eval.tasks import TaskManager
from PIL import Image as PILImage

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.harness.model import DualFocusChat, DualFocusSimple
from dualfocus_eval.harness.session import Session
from dualfocus_eval.traces.trace_files import join_traces

WORDS = ("red cup", "blue ball", "tree", "street", "kitchen", "table")


@pytest.fixture(scope="module")
def documents() -> Dataset:
    """18 questions, six about each of three images, the images taking turns."""
    rows = {"question": [f"is there a {WORDS[n // 3]}" for n in range(18)], "image": [png(n % 3) for n in range(18)]}
    return Dataset.from_dict(rows, features=Features({"question": Value("string"), "image": Image()}))


def png(number: int) -> dict[str, Any]:
    file = io.BytesIO()
    image = PILImage.new("RGB", (60, 50), (80 * number, 30, 200 - 70 * number))
    image.paste((255, 255, 0), (10 * number, 5, 10 * number + 15, 30))
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


class Task:
    """As much of a task as travels with an instance."""

    def __init__(self, **flags: Any) -> None:
        self.args = argparse.Namespace(tasks="t", **flags)

    def doc_to_messages(self, doc: Any) -> list[dict[str, Any]]:
        content = [{"type": "image", "url": doc["image"]}, {"type": "text", "text": doc["question"]}]
        return [{"role": "user", "content": content}]

    def doc_to_visual(self, doc: Any) -> list[Any]:
        return [doc["image"]]


def chat(number: int, task: Task, **metadata: Any) -> Instance:
    arguments = ("ctx", task.doc_to_messages, {"max_new_tokens": 6, "until": None}, number, "t", "test")
    return Instance("generate_until", arguments, 0, {"task": "t", "doc_id": number, "repeats": 1, **metadata})


@pytest.fixture
def model(checkpoint: Path, documents: Dataset, tmp_path: Path) -> Iterator[DualFocusChat]:
    made = DualFocusChat(pretrained=str(checkpoint), batch_size=6, dtype="float64", trace_dir=str(tmp_path / "traces"))
    made.task_dict = {"t": {"test": documents}}
    yield made
    made.clean()


def test_answers_come_back_in_the_asked_order_whatever_the_order_of_work(model: DualFocusChat) -> None:
    task = Task()
    forward = [result.text for result in model.generate_until([chat(n, task) for n in range(18)])]
    assert len(set(forward)) > 6
    model.session.store._answered.clear()
    backward = [result.text for result in model.generate_until([chat(n, task) for n in reversed(range(18))])]
    assert backward == forward[::-1]


def test_an_image_is_encoded_once_for_its_six_questions(model: DualFocusChat) -> None:
    model.generate_until([chat(n, Task()) for n in range(18)])
    counters, traces = model.session.engine.counters, model.session.store._answered.values()
    crops = {(trace.images[0].digest, trace.grounding.crop) for trace in traces if trace.micro and trace.grounding}
    assert counters.images_encoded == 3 + len(crops)
    assert counters.tokens_reused > counters.images_encoded * 16


def test_repeats_and_padding_are_neither_computed_nor_stored_twice(model: DualFocusChat) -> None:
    task = Task()
    once = chat(0, task)
    padding = chat(1, task, __padding_only__=True)
    first, second, padded = model.generate_until([once, once, padding])
    assert first.text == second.text
    assert padded.text == ""
    assert [key for key, _ in model.session.store._answered] == ["t/0"]
    assert first.token_counts
    assert first.token_counts.output_tokens >= 6


def finished(model: DualFocusChat) -> dict[str, Any]:
    """What the model makes of lmms-eval's results when a run of its ends."""
    model.clean()
    results: dict[str, Any] = {"results": {"t": {"alias": "t"}}, "higher_is_better": {}, "group_subtasks": {}}
    model.add_to_results(results)
    return results


def test_the_record_of_a_finished_run_goes_into_the_results(
    model: DualFocusChat, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = Task(limit=None, use_cache=None)
    before = [result.text for result in model.generate_until([chat(n, task) for n in range(4)])]
    record = finished(model)["dualfocus"]
    assert record["summary"]["questions"] == 4
    assert record["tasks"] == {"t": {"questions": 4, "failures": {}}}
    assert record["traces"] == str(tmp_path / "traces")
    budget = record["engine"]["prefix_cache_gib"]
    assert 0 < budget < 2
    assert record["summary"]["prefix_cache_gib"] == budget
    printed = capsys.readouterr().out
    assert "questions" in printed
    assert "prefix cache, GiB at most" in printed
    again = model.generate_until([chat(n, task) for n in range(4)])
    assert [result.text for result in again] == before
    assert model.session.record["summary"]["resumed"] == 4


def test_traces_that_are_deleted_in_mid_run_are_written_anew(
    model: DualFocusChat, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model.generate_until([chat(n, Task()) for n in range(4)])
    shutil.rmtree(tmp_path / "traces")
    model.generate_until([chat(n, Task()) for n in range(4, 6)])
    summary = finished(model)["dualfocus"]["summary"]
    assert (summary["unwritten"], summary["rewritten"]) == (0, 4)
    assert sorted(trace.key for trace in join_traces(tmp_path / "traces")) == [f"t/{n}" for n in range(6)]
    assert "answers that vanished from the traces, stored anew │" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "alone"),
    [
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, True),
        ({"ACCELERATE_USE_CPU": "True"}, False),
        ({"MASTER_ADDR": "127.0.0.1"}, False),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "1"}, False),
    ],
)
def test_one_process_in_place_of_several_is_warned_of(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], alone: bool
) -> None:
    model = DualFocusChat(pretrained=str(checkpoint))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = Session(model.session.config, model.accelerator, model.session.engine)
    assert [warning.startswith("accelerate launch started a single process") for warning in run.record["warnings"]] == (
        [True] * alone
    )


def test_a_flag_without_effect_is_in_log_summary_and_record(
    model: DualFocusChat, capsys: pytest.CaptureFixture[str]
) -> None:
    from loguru import logger

    heard: list[str] = []
    sink = logger.add(heard.append, format="{message}")
    task = Task(max_batch_size=64)
    asked = chat(0, task)
    asked.arguments[2]["image_aspect_ratio"] = "pad"
    for _ in range(2):
        model.generate_until([asked])
    logger.remove(sink)
    warnings = finished(model)["dualfocus"]["warnings"]
    assert [line.partition(" has no effect")[0] for line in warnings] == [
        "--max_batch_size",
        "task t: generation argument image_aspect_ratio",
    ]
    assert [line.strip() for line in heard if "no effect" in line] == warnings
    assert f"warning: {warnings[0]}" in capsys.readouterr().out


def test_an_old_name_is_warned_of_in_summary_and_record(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = DualFocusChat(pretrained=str(checkpoint), wording="format1", selection="own")
    assert (model.session.config.settings.prompt_set, model.session.config.settings.selection) == (
        "format1",
        "own_context",
    )
    warnings = finished(model)["dualfocus"]["warnings"]
    assert [warning.partition(";")[0] for warning in warnings] == [
        "--model_args: wording is now called prompt_set",
        "--model_args: selection=own is now called own_context",
    ]
    assert f"warning: {warnings[0]}" in capsys.readouterr().out


def test_a_budget_of_thinking_is_warned_of_where_nothing_thinks(checkpoint: Path) -> None:
    model = DualFocusChat(pretrained=str(checkpoint), max_thinking_tokens=5)
    assert finished(model)["dualfocus"]["warnings"] == [
        "max_thinking_tokens has no effect: the checkpoint has no thinking markers"
    ]


def test_a_limit_that_cuts_rows_apart_is_warned_of_in_a_group_and_under_any_name(
    model: DualFocusChat, tmp_path: Path
) -> None:
    ours = resource_folder("tasks") / "mmbench"
    data = f"dataset_kwargs: {{data_files: {{test: {ours / 'data' / 'mini.parquet'}}}}}"
    (tmp_path / "circles.yaml").write_text(f"include: {ours / 'df_mmbench_en_mini.yaml'}\ntask: circles\n{data}\n")
    (tmp_path / "everything.yaml").write_text("group: everything\ntask: [circles]\n")
    manager = TaskManager("ERROR", str(tmp_path), include_defaults=False, model_name="dualfocus")
    ((_, tasks),) = manager.load_task_or_group("everything", task_type="chat").items()
    tasks["circles"].args = argparse.Namespace(tasks="everything", limit=2)
    tasks["circles"].build_all_requests(limit=2, rank=0, world_size=1)
    model._take_flags(tasks["circles"].instances)
    (warning,) = model.session.record["warnings"]
    assert warning == "--limit cuts rows of circles apart that belong together, which inflates the score"


@pytest.mark.parametrize("flags", [{"use_cache": "cache"}, {"num_fewshot": 2}, {"fewshot_as_multiturn": True}])
def test_a_refused_flag_ends_the_run_before_anything_is_answered(model: DualFocusChat, flags: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(flags))} .* is not supported by dualfocus"):
        model.generate_until([chat(0, Task(**flags))])
    assert not model.session.store._answered


def test_the_system_instruction_is_the_system_turn(model: DualFocusChat, checkpoint: Path, documents: Dataset) -> None:
    model.generate_until([chat(0, Task(system_instruction="Be brief.")), chat(1, Task())])
    by_flag = {key for key, _ in model.session.store._answered}, {digest for _, digest in model.session.store._answered}
    model.clean()
    folder = model.session.trace_folder.with_name("other")
    for prompt, instruction in (("Be brief.", None), ("Be brief.", "Be brief.")):
        other = DualFocusChat(pretrained=str(checkpoint), dtype="float64", system_prompt=prompt, trace_dir=str(folder))
        other.task_dict = model.task_dict
        other.generate_until([chat(number, Task(system_instruction=instruction)) for number in (0, 1)])
        answered = other.session.store._answered
        assert ({key for key, _ in answered}, {digest for _, digest in answered}) == by_flag
        with pytest.raises(UserError, match=r"--system_instruction 'Be kind\.' and .*'Be brief\.' differ; give one"):
            other.generate_until([chat(0, Task(system_instruction="Be kind."))])
        other.clean()


def test_sampling_is_refused_before_anything_is_answered(model: DualFocusChat) -> None:
    sampling = chat(1, Task())
    sampling.arguments[2]["temperature"] = 0.5
    with pytest.raises(UserError, match=r"temperature=0\.5"):
        model.generate_until([chat(0, Task()), sampling])
    assert not model.session.store._answered


def test_tasks_of_several_rounds_are_refused(model: DualFocusChat) -> None:
    with pytest.raises(UserError, match="generate_until_multi_round"):
        model.generate_until_multi_round([chat(0, Task())])


def test_an_argument_wins_over_the_flag_of_its_name(checkpoint: Path, tmp_path: Path) -> None:
    made = DualFocusChat.create_from_arg_string(
        f"pretrained={checkpoint},batch_size=5,trace_dir={tmp_path}",
        {"batch_size": 1, "max_batch_size": None, "device": "cpu"},
    )
    assert (made.session.config.batch_size, made.session.config.engine.device) == (5, "cpu")
    with pytest.raises(UserError, match="is not NAME=VALUE"):
        DualFocusChat.create_from_arg_string("strategy=macro,own")


def likelihood(number: int, text: Any, task: Task, context: str = "is there a cup", **metadata: Any) -> Instance:
    arguments = (context, text, task.doc_to_visual, number, "t", "test")
    return Instance("loglikelihood", arguments, 0, {"task": "t", "doc_id": number, "repeats": 1, **metadata})


def pairs(model: DualFocusSimple, requests: list[Instance]) -> list[tuple[float, bool]]:
    """What lmms-eval makes of the model's likelihoods before it scores them."""
    return [unwrap_generation_output(result)[0] for result in model.loglikelihood(requests)]


def test_likelihoods_belong_to_their_texts(checkpoint: Path, documents: Dataset, tmp_path: Path) -> None:
    made = DualFocusSimple(pretrained=str(checkpoint), strategy="macro", dtype="float64", trace_dir=str(tmp_path))
    made.task_dict = {"t": {"test": documents}}
    task = Task()
    asked = [(4, " yes"), (5, " no"), (4, " no"), (4, " yes"), (4, lambda doc: " yes")]
    together = pairs(made, [likelihood(number, text, task) for number, text in asked])
    alone = [pairs(made, [likelihood(number, text, task)])[0] for number, text in asked]
    assert [nll for nll, _ in together] == pytest.approx([nll for nll, _ in alone])
    assert together[0] == together[3] == together[4]
    assert len({nll for nll, _ in together}) == 3
    assert not any(is_greedy for _, is_greedy in together)
    assert all(nll > 0 for nll, _ in together)
    contexts = ["is there a cup", "is there a tree", "is there a cup"]
    compared = pairs(made, [likelihood(4, " yes", task, context) for context in contexts])
    assert compared[0] == compared[2] != compared[1]
    padded = pairs(made, [likelihood(4, " yes", task, __padding_only__=True)])
    assert padded == [(float("inf"), False)]
    made.clean()


def test_likelihood_between_two_pathways_is_refused(checkpoint: Path, documents: Dataset, tmp_path: Path) -> None:
    made = DualFocusSimple(pretrained=str(checkpoint), trace_dir=str(tmp_path))
    made.task_dict = {"t": {"test": documents}}
    with pytest.raises(UserError, match="strategy=macro or strategy=micro"):
        made.loglikelihood([likelihood(0, " yes", Task())])


def test_two_runs_cannot_write_the_same_traces(checkpoint: Path, documents: Dataset, tmp_path: Path) -> None:
    made = [DualFocusChat(pretrained=str(checkpoint), trace_dir=str(tmp_path)) for _ in range(2)]
    for one in made:
        one.task_dict = {"t": {"test": documents}}
    made[0].generate_until([chat(0, Task())])
    with pytest.raises(UserError, match="cannot be used"):
        made[1].generate_until([chat(1, Task())])
    made[0].clean()
