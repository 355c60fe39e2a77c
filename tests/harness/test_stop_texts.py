"""An answer ends at the stop texts that its task names, and not at the few-shot delimiter that lmms-eval fills in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import dill
import lmms_eval.tasks
import pytest
from lmms_eval.api.task import ConfigurableTask, TaskConfig

from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.harness.generation import read_generation_kwargs
from dualfocus_eval.harness.task_index import index_our_tasks

DATA = resource_folder("tasks") / "pope" / "data" / "random.parquet"
TASK = {
    "task": "mine",
    "dataset_path": "parquet",
    "dataset_kwargs": {"data_files": {"test": str(DATA)}},
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "doc_to_visual": "image",
    "metric_list": [{"metric": "exact_match"}],
}


@pytest.fixture(autouse=True, scope="module")
def _plugin() -> None:
    """What lmms-eval does when it loads our entry point."""
    index_our_tasks()


def stops(kwargs: Any) -> tuple[str, ...]:
    return read_generation_kwargs(kwargs, "t").stop


@pytest.mark.parametrize(
    ("given", "stop"),
    [
        (None, ()),
        ({}, ()),
        ({"max_new_tokens": 64}, ()),
        ({"until": ["\n\n"]}, ("\n\n",)),
        ({"until": "\n\n", "max_new_tokens": 64}, ("\n\n",)),
        ({"until": []}, ()),
        ({"until": None}, ()),
        ({"until": ["Q:", "\n\n"]}, ("Q:", "\n\n")),
    ],
)
def test_only_what_the_task_itself_names_stops_an_answer(given: dict[str, Any] | None, stop: tuple[str, ...]) -> None:
    config = TaskConfig(task="t", generation_kwargs=given)
    assert stops(config.generation_kwargs) == stop
    # The ways on which lmms-eval hands them on.
    assert stops(copy.deepcopy(config.generation_kwargs)) == stop
    assert stops(dill.loads(dill.dumps(config.generation_kwargs))) == stop
    assert stops(config.to_dict().get("generation_kwargs", {})) == stop
    config.generation_kwargs.update({"max_new_tokens": 3})  # --gen_kwargs
    assert stops(config.generation_kwargs) == stop
    config.generation_kwargs.update({"until": ["\n\n"]})
    assert stops(config.generation_kwargs) == ("\n\n",)


def test_other_delimiters_are_filled_in_too() -> None:
    assert stops(TaskConfig(task="t", fewshot_delimiter="\n").generation_kwargs) == ()
    assert stops(TaskConfig(task="t", fewshot_delimiter=None).generation_kwargs) == ()


def test_other_models_find_what_lmms_eval_fills_in() -> None:
    assert TaskConfig(task="t", generation_kwargs={"max_new_tokens": 64}).generation_kwargs == {
        "max_new_tokens": 64,
        "until": ["\n\n"],
    }
    assert TaskConfig(task="t", output_type="multiple_choice").generation_kwargs is None


def test_tasks_of_one_group_share_their_arguments_and_are_told_apart() -> None:
    shared = {"max_new_tokens": 64}
    assert [stops(TaskConfig(task=name, generation_kwargs=shared).generation_kwargs) for name in "ab"] == [(), ()]


@pytest.mark.parametrize("own", [{}, {"until": ["\n\n"]}])
def test_tasks_from_files_dicts_and_objects(tmp_path: Path, own: dict[str, Any]) -> None:
    kwargs = {"max_new_tokens": 64, **own}
    until = "" if not own else '\n  until: ["\\n\\n"]'
    (tmp_path / "base").write_text(f"generation_kwargs:\n  max_new_tokens: 64{until}\n")
    yaml = "\n".join(f"{name}: {value}" for name, value in TASK.items() if isinstance(value, str) and "{" not in value)
    (tmp_path / "mine.yaml").write_text(
        f"include: base\n{yaml}\ndataset_kwargs: {{data_files: {{test: {DATA}}}}}\n"
        'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\nmetric_list: [{metric: exact_match}]\n'
    )
    manager = lmms_eval.tasks.TaskManager("ERROR", str(tmp_path), include_defaults=False, model_name="dualfocus")
    named = manager.load_task_or_group("mine", task_type="chat")["mine"]
    from_dict = manager.load_task_or_group([{**TASK, "task": "other", "generation_kwargs": kwargs}])["other"]
    made = ConfigurableTask(config={**TASK, "generation_kwargs": kwargs})
    for task in (named, from_dict, made):
        request = task.construct_requests(
            0, "ctx", metadata={"split": "test", "task": "mine", "doc_id": 0, "repeats": 1}
        )
        arguments = next(value for value in request.args if isinstance(value, dict))
        assert stops(arguments) == (("\n\n",) if own else ())


def test_a_task_that_was_made_before_this_package_was_loaded_is_taken_as_lmms_evals_chat_models_take_it() -> None:
    assert stops({"max_new_tokens": 64, "until": ["\n\n"]}) == ()
    assert stops({"max_new_tokens": 64, "until": ["\n"]}) == ("\n",)
