"""No stored answer is stale: what can change an answer is in its key, and what cannot reuses every answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from loguru import logger
from PIL import Image

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines import environment, weights_digest
from dualfocus_eval.engines.base import Picture
from dualfocus_eval.engines.identity import engine_digest
from dualfocus_eval.engines.in_process import TransformersEngine, load_engine
from dualfocus_eval.harness.arguments import ARGUMENTS, resolve
from dualfocus_eval.harness.session import Session
from dualfocus_eval.harness.store_key import StoreKey
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.settings import ONLY_WITH
from tests.engines.checkpoint_changes import CHANGES, HARMLESS, byte, configuration
from tests.method.test_settings import CHANGES as SETTINGS
from tests.method.test_settings import others  # noqa: F401  # a fixture

IN_KEY: dict[str, Any] = SETTINGS | {
    "attention_layer": 2,
    "jitter": 25,
    "image_aspect": "pad",
    "min_pixels": 100,
    "max_pixels": 100,
}
"""Arguments whose value is a part of the key."""
WITH: dict[str, dict[str, Any]] = {name: {"grounding": method} for name, method in ONLY_WITH.items()}
WITH["jitter"] = {"grounding": "shifted", "jitter": 10}
"""What else has to be given for an argument to have an effect."""
BY_CONTENT = {"pretrained", "revision", "peft", "trust_remote_code", "detector"}
"""Arguments that name files: the files' content is in the key (`tests.engines.test_identity`, `test_detector`)."""
BY_EFFECT = {"device", "device_map", "dtype", "attn_implementation"}
"""Arguments that say how to compute: the device, precision and attention that a run ends up with is its arithmetic."""
IN_QUESTION = {"system_prompt"}
OF_SERVERS = {"engine", "base_url", "model", "api_key", "concurrency", "timeout", "retries"}
"""Arguments of the engine in front of servers, whose key is made of what is found there (`tests.engines.server`)."""
RESOLVED = {"recipe"}
"""Brings nothing but values of other arguments."""
WHERE_IT_MATTERS = {"score_all", "max_thinking_tokens"}
"""Whether candidates are scored is in the key; a selection rule may need the scores (`tests.method.test_settings`). How
long a checkpoint may think is in the keys of those that do (`tests.method.test_thinking`)."""
WITHOUT_EFFECT: dict[str, Any] = {
    "batch_size": 3,
    "max_batch_size": 64,
    "prefix_cache_gib": 0,
    "trace_dir": "elsewhere",
    "trace_images": "off",
    "selection": "own_context",
}
"""Arguments that change no answer, whatever their value."""

QUESTIONS = [
    Question(f"task/{number}", f"what is on the {place}", f"what is on the {place}", (Picture(image),))
    for number, (place, image) in enumerate(
        (place, Image.linear_gradient("L").convert("RGB").rotate(turn).resize((60, 40)))
        for place, turn in (("left", 0), ("table", 90), ("tree", 180), ("kitchen", 270))
    )
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_digest, "user_cache_path", lambda name: tmp_path / "cache" / name)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> TransformersEngine:
    return load_engine(resolve({"pretrained": str(checkpoint)}).engine)


Key = Callable[..., str]


@pytest.fixture
def key(checkpoint: Path, engine: TransformersEngine) -> Key:
    """A function from model arguments to the run's settings key. The model is loaded once, for all runs."""

    def key_of(**arguments: Any) -> str:
        config = resolve({"pretrained": str(checkpoint), **arguments})
        loaded = replace(engine.checkpoint, digest=engine_digest(config.engine))
        return Session(config, Accelerator(), TransformersEngine(loaded, 1, 0)).settings_key

    return key_of


def test_of_every_argument_it_is_decided_whether_it_can_change_an_answer() -> None:
    kinds = (IN_KEY, BY_CONTENT, BY_EFFECT, IN_QUESTION, OF_SERVERS, RESOLVED, WHERE_IT_MATTERS, WITHOUT_EFFECT)
    assert sorted(name for kind in kinds for name in kind) == sorted(ARGUMENTS)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("name", IN_KEY)
def test_an_argument_that_can_change_an_answer_changes_the_key(key: Key, name: str) -> None:
    base = WITH.get(name, {})
    assert key(**(base | {name: IN_KEY[name]})) != key(**base)


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_an_argument_that_cannot_does_not(key: Key, name: str) -> None:
    assert key(**{name: WITHOUT_EFFECT[name]}) == key()


def test_another_version_of_the_family_is_not_reused(checkpoint: Path, engine: TransformersEngine) -> None:
    later = replace(engine.checkpoint, family=replace(engine.checkpoint.family, version=2))
    config = resolve({"pretrained": str(checkpoint)})
    assert StoreKey.of(config.settings, TransformersEngine(later, 1, 0)) != StoreKey.of(config.settings, engine)


def test_a_recipe_is_what_it_sets(key: Key, tmp_path: Path) -> None:
    recipe = tmp_path / "wide.yaml"
    recipe.write_text("inference: {margin: 10, image_aspect: pad, max_pixels: 900}\n")
    assert key(recipe=str(recipe)) == key(margin=10.0, image_aspect="pad", max_pixels=900)


def test_a_system_prompt_makes_it_another_question() -> None:
    assert replace(QUESTIONS[0], system="Be brief.").digest != QUESTIONS[0].digest


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_checkpoint_changes_the_key(key: Key, checkpoint: Path, tmp_path: Path, name: str) -> None:
    changed = Path(shutil.copytree(checkpoint, tmp_path / "tiny-llava"))
    CHANGES[name](changed)
    assert key(pretrained=str(changed)) != key()


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to be changed."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(str(message).strip()), format="{message}", level="WARNING")
    yield messages
    logger.remove(sink)


def record_of(folder: Path, traces: Path, **arguments: Any) -> tuple[Mapping[str, Any], list[str]]:
    """A whole run over the questions, loaded from the folder: what it leaves in the results, and its answers."""
    run = Session(resolve({"pretrained": str(folder), "trace_dir": str(traces), **arguments}), Accelerator())
    ((_, traces_of_all),) = run.answered([("all", QUESTIONS)])
    answers = [trace.text for trace in traces_of_all]
    record = run.record
    run.finish()
    return record, answers


def resumed(record: Mapping[str, Any]) -> int:
    return int(record["summary"]["resumed"])


def test_harmless_changes_reuse_all(folder: Path, tmp_path: Path, warnings: list[str]) -> None:
    _, answers = record_of(folder, tmp_path / "traces")
    for name, change in HARMLESS.items():
        if name != "folder name":
            change(folder)
    moved = folder.rename(tmp_path / "other-name")
    record, again = record_of(moved, tmp_path / "traces", batch_size=3, prefix_cache_gib=0)
    assert (resumed(record), again) == (len(QUESTIONS), answers)
    assert record["checkpoint"].startswith("other-name-")
    assert (warnings, record["not_reused"]) == ([], [])


@pytest.mark.parametrize("name", ["embedding rows exchanged", "normalizer", "image mean"])
def test_a_repaired_checkpoint_does_not_get_the_broken_one_s_answers(folder: Path, tmp_path: Path, name: str) -> None:
    repaired = Path(shutil.copytree(folder, tmp_path / "repaired"))
    CHANGES[name](folder)
    record_of(folder, tmp_path / "traces")
    shutil.rmtree(folder)
    repaired.rename(folder)
    record, answers = record_of(folder, tmp_path / "traces")
    assert resumed(record) == 0
    assert answers == record_of(folder, tmp_path / "empty")[1]


def test_another_attention_in_half_precision_is_not_reused(folder: Path, tmp_path: Path, warnings: list[str]) -> None:
    record_of(folder, tmp_path / "traces", dtype="bfloat16")
    record, answers = record_of(folder, tmp_path / "traces", dtype="bfloat16", attn_implementation="eager")
    assert resumed(record) == 0
    assert warnings == ["4 stored answers of attention sdpa are not reused: this run has attention eager"]
    assert record["arithmetic"]["attention"] == "eager"
    assert resumed(record_of(folder, tmp_path / "traces", dtype="bfloat16", attn_implementation="sdpa")[0]) == 4
    again, same = record_of(folder, tmp_path / "traces", dtype="bfloat16", attn_implementation="eager")
    assert (resumed(again), same) == (4, answers)


def test_after_an_upgrade_everything_is_computed_again(
    folder: Path, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = record_of(folder, tmp_path / "traces")
    installed = environment.version
    monkeypatch.setattr(environment, "version", lambda name: "99.0" if name == "torch" else installed(name))
    configuration("config.json", transformers_version="99.0")(folder)
    after, _ = record_of(folder, tmp_path / "traces")
    assert (resumed(after), after["summary"]["questions"]) == (0, 4)
    assert after["settings_key"] == before["settings_key"]
    expected = f"4 stored answers of torch {installed('torch')} are not reused: this run has torch 99.0"
    assert (warnings, after["not_reused"]) == ([expected], [expected])
    assert resumed(record_of(folder, tmp_path / "traces")[0]) == 4
    assert warnings == [expected]  # nothing was left out the second time


def test_another_precision_is_not_reused(folder: Path, tmp_path: Path) -> None:
    record_of(folder, tmp_path / "traces")
    record, _ = record_of(folder, tmp_path / "traces", dtype="float64")
    assert resumed(record) == 0
    assert record["not_reused"] == ["4 stored answers of dtype float32 are not reused: this run has dtype float64"]


def test_a_checkpoint_that_changes_between_two_uses_of_a_model_is_noticed(folder: Path, tmp_path: Path) -> None:
    run = Session(resolve({"pretrained": str(folder), "trace_dir": str(tmp_path / "traces")}), Accelerator())
    list(run.answered([("all", QUESTIONS)]))
    run.finish()
    byte(-1)(folder)
    with pytest.raises(UserError, match="has changed since"):
        list(run.answered([("all", QUESTIONS)]))
