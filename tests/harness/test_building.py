"""How tasks' requests are built: for our model what it applies itself stays out; for other models nothing changes."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.building import adapt_building, flags_of_task

ASKED = {"limit": 2, "system_instruction": "Be brief.", "apply_chat_template": True, "chat_template": str}


def task(model: str | None, output_type: str = "generate_until", **config: Any) -> Any:
    class Task:
        OUTPUT_TYPE = output_type
        model_name = model

        def __init__(self) -> None:
            self.config = SimpleNamespace(**{"task": "t", "doc_to_visual": "image", "num_fewshot": 0, **config})

        def build_all_requests(self, **asked: Any) -> None:
            self.built = asked

    adapt_building(Task)
    adapt_building(Task)
    return Task()


def test_our_model_applies_system_instruction_and_chat_template_itself() -> None:
    ours = task("dualfocus")
    ours.build_all_requests(**ASKED)
    assert (ours.built["limit"], ours.built["system_instruction"], ours.built["apply_chat_template"]) == (
        2,
        None,
        False,
    )
    assert flags_of_task(ours)["system_instruction"] == "Be brief."


def test_other_models_get_what_was_asked_for() -> None:
    theirs = task("llava_hf", output_type="generate_until_multi_round", num_fewshot=3)
    theirs.build_all_requests(**ASKED)
    assert theirs.built == ASKED | {"cache_requests": False, "rewrite_requests_cache": False}


@pytest.mark.parametrize("model", ["dualfocus", "llava_hf"])
def test_no_request_comes_from_a_cache_that_loses_its_functions(model: str) -> None:
    made = task(model)
    made.build_all_requests(cache_requests=True, rewrite_requests_cache=True)
    assert not made.built["cache_requests"]
    assert not made.built["rewrite_requests_cache"]
    assert flags_of_task(made)["cache_requests"]


def test_the_command_line_tells_more_than_the_task_was_told() -> None:
    made = task(None)
    made.args = argparse.Namespace(model="dualfocus", use_cache=None, limit=0.5)
    made.build_all_requests(limit=7)
    assert flags_of_task(made) == {"model": "dualfocus", "limit": 0.5, "num_fewshot": 0}
    made.args.use_cache = "cache"
    with pytest.raises(UserError, match="--use_cache cache is not supported"):
        made.build_all_requests(limit=7)


@pytest.mark.parametrize("output_type", ["generate_until_agentic", "generate_until_multi_round", "generate_visual_cot"])
def test_tasks_of_several_steps_are_refused_by_name(output_type: str) -> None:
    with pytest.raises(UserError, match=f"task t: output_type {output_type} is not supported by dualfocus"):
        task("dualfocus", output_type).build_all_requests()


def test_examples_are_refused_where_they_would_not_be_shown() -> None:
    with pytest.raises(UserError, match="--num_fewshot 3 is not supported"):
        task("dualfocus", num_fewshot=3).build_all_requests()
    task("dualfocus", num_fewshot=3, doc_to_visual=None).build_all_requests()
