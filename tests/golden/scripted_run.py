"""A run of lmms-eval over all embedded sets whose model is a script: everything but the network is the product's.

Its answers follow from the questions alone, so that every number of its report is the same on every machine.
"""

from __future__ import annotations

import io
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lmms_eval.tasks
import pyarrow.parquet as pq
from PIL import Image

from dualfocus_eval.cli.eval import main
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.datasets.vstar import read_question
from dualfocus_eval.engines.base import Conversation, Failure, Picture
from dualfocus_eval.engines.in_process import load_engine
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.harness import session
from dualfocus_eval.method.prompts import PROMPT_SETS
from tests.scripted_engine import Answer, ScriptedEngine, prompt_of

__all__ = ["LIMIT", "answer_by_script"]

LIMIT = 32
_OF_THE_CHECKPOINT = [name for name in vars(RunEngine) if not name.startswith("_") and name != "call_engine"]
Known = Mapping[str, Mapping[str, str]]
"""Right answers by the image's digest and by question; of multiple choice the option's text."""


def answer_by_script(output: Path, tasks: str, settings: str) -> None:
    """Write the results, samples and traces of a run of ``dualfocus eval`` to ``output``."""
    known = _known_answers()

    def load(config: Any) -> ScriptedEngine:
        loaded = load_engine(config)
        engine = ScriptedEngine(lambda asked: _answer(asked, known), _nll)
        for name in _OF_THE_CHECKPOINT:
            setattr(engine, name, getattr(loaded, name))
        engine.call_engine = lambda: engine  # type: ignore[attr-defined]
        engine.counters.seconds = {"preprocess": 1.0, "vision": 2.5, "prefill": 4.0, "decode": 1.5}
        return engine

    nowhere = str(output / "none" / "__init__.py")  # lmms-eval's own thousands of tasks take seconds to find
    with patch.object(session, "start_engine", load), patch.object(lmms_eval.tasks, "__file__", nowhere):
        status = main([
            "--tasks", tasks, "--limit", str(LIMIT), "--batch_size", "8", "--model_args", settings,
            "--output_path", str(output), "--log_samples",
        ])  # fmt: skip
    assert status == 0


def _known_answers() -> Known:
    known: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(resource_folder("tasks").rglob("*.parquet")):
        for row in pq.read_table(path).slice(0, LIMIT).to_pylist():
            asked, right = _asked(row)
            known[_digest(row["image"])][asked.lower()] = right
    return known


def _asked(row: Mapping[str, Any]) -> tuple[str, str]:
    """The question of a row of any embedded set, and its right answer."""
    if "label" in row:
        question = read_question(row)
        return question.stem, question.options["ABCD".index(row["label"])]
    options = {letter: row.get(letter) or row.get(f"choice_{letter.lower()}") for letter in "ABCD"}
    right = row.get("answer") or row["answers"][0]
    return row.get("stem") or row["question"], options.get(right) or right


def _digest(image: Any) -> str:
    image = image[0] if isinstance(image, list) else image
    return Picture(Image.open(io.BytesIO(image["bytes"])).convert("RGB")).digest


def _chance(conversation: Conversation, *more: str) -> random.Random:
    parts = [part for message in conversation for part in message.content]
    return random.Random(repr([part.digest if isinstance(part, Picture) else part for part in parts] + list(more)))


def _answer(conversation: Conversation, known: Known) -> Answer:
    prompt, chance = prompt_of(conversation), _chance(conversation)
    if PROMPT_SETS["released"].grounding in prompt:
        return _box(chance), chance.uniform(0.01, 0.8)
    if len(conversation) > 1 and chance.random() < 0.05:
        return Failure("too_long", "the second pass does not fit")
    image = next(part for part in conversation[0].content if isinstance(part, Picture))
    right = known[image.digest][max((name for name in known[image.digest] if name in prompt.lower()), key=len)]
    options = {text: letter for letter, text in re.findall(r"^([A-D])\. (.*)$", prompt, re.MULTILINE)}
    if chance.random() < 0.3:
        return chance.choice("ABCD" if options else ("yes", "no", "red", "blue", "")), chance.uniform(0.2, 2.5)
    spelling = chance.choice(("{}", "{}", "{}.", "({})", "{}: this one") if options else ("{}", "{}", "{}."))
    return spelling.format(options[right] if options else right), chance.uniform(0.01, 1.5)


def _box(chance: random.Random) -> str:
    """Most are boxes; some cannot be read, some are empty."""
    if chance.random() < 0.1:
        return chance.choice(("in the middle", "[0.50, 0.50, 0.50, 0.50]"))
    left, top = chance.randrange(60), chance.randrange(60)
    corners = (left, top, left + chance.randrange(5, 40), top + chance.randrange(5, 40))
    return "[" + ", ".join(f"{corner / 100:.2f}" for corner in corners) + "]"


def _nll(conversation: Conversation, text: str) -> float:
    return _chance(conversation, text).uniform(0.05, 2.0)
