"""``dualfocus report`` on a real run: every number again from the raw traces, by code that shares nothing with it."""

from __future__ import annotations

import json
import math
import string
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dualfocus_eval.resources import resource_folder
from tests.integration.conftest import BIN, Outcome, Run

SCENES, POPE = "df_scenes_mini", "df_pope_mini_random"
ARGUMENTS = ["--tasks", f"{SCENES},{POPE}", "--limit", "40", "--batch_size", "8"]
SETTINGS = "selection=own,score_all=true"
Question = dict[str, Any]


@pytest.fixture
def full(run: Run, tmp_path: Path) -> Outcome:
    outcome = run("dualfocus", "eval", "--model_args", SETTINGS, *ARGUMENTS, output="full")
    assert outcome.status == 0, outcome.output
    return outcome


@pytest.fixture
def tables(full: Outcome, tmp_path: Path, environment: Mapping[str, str]) -> Callable[[str], list[dict[str, Any]]]:
    """Rows of a table of the report, measured cells as plain numbers."""
    done = subprocess.run(
        [str(BIN / "dualfocus"), "report", str(tmp_path / "full"), "--out", str(tmp_path / "report")],
        env=dict(environment), capture_output=True, text=True, timeout=900, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    def rows(name: str) -> list[dict[str, Any]]:
        content = json.loads((tmp_path / "report" / "tables" / f"{name}.json").read_text())
        return [
            {key.removesuffix(" *"): cell["value"] if isinstance(cell, dict) else cell for key, cell in row.items()}
            for row in content["rows"]
        ]

    return rows


def scene_score(doc: Mapping[str, Any], text: str) -> float:
    def plain(answer: str) -> list[str]:
        words = "".join(c for c in answer.lower() if c not in string.punctuation).split()
        return [word for word in words if word not in ("a", "an", "the")] or words

    return float(plain(text) == plain(doc["answer"]) != [])


def pope_answer(text: str) -> str:
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if any(word in ("No", "not", "no") for word in words) else "yes"


def questions(folder: Path) -> dict[str, list[Question]]:
    """By task: document, trace, both scores and every rule's choice, from the files alone."""
    docs = {
        SCENES: pd.read_parquet(resource_folder("tasks") / "scenes" / "data" / "mini.parquet"),
        POPE: pd.read_parquet(resource_folder("tasks") / "pope" / "data" / "random.parquet"),
    }
    found: dict[str, list[Question]] = {SCENES: [], POPE: []}
    for line in (folder / "traces" / "traces.rank0000.jsonl").read_text().splitlines():
        trace = json.loads(line)
        task, _, number = trace["key"].rpartition("/")
        doc = docs[task].iloc[int(number)].to_dict()
        texts = {"macro": trace["macro"]["text"], "micro": (trace["micro"] or trace["macro"])["text"]}
        if task == SCENES:
            scores = {pathway: scene_score(doc, text) for pathway, text in texts.items()}
        else:
            scores = {pathway: float(pope_answer(text) == doc["answer"]) for pathway, text in texts.items()}
        choices = {"macro": "macro", "micro": "micro"}
        for rule in ("own", "micro", "released"):
            choices[f"{rule} rule"] = trace["picks"].get(rule, "macro")
        choices["oracle"] = "micro" if scores["micro"] > scores["macro"] else "macro"
        found[task].append({"doc": doc, "trace": trace, "texts": texts, "scores": scores, "choices": choices})
    assert [len(part) for part in found.values()] == [40, 40]
    return found


def nll(completion: Mapping[str, Any]) -> float:
    return -sum(completion["logprobs"]) / len(completion["logprobs"])


def accuracy(part: list[Question], choice: str) -> float:
    return 100 * sum(question["scores"][question["choices"][choice]] for question in part) / len(part)


CHOICES = ("macro", "micro", "own rule", "micro rule", "released rule", "oracle")


def test_every_number_follows_from_the_raw_traces(
    tables: Callable[[str], list[dict[str, Any]]], tmp_path: Path
) -> None:
    tasks = questions(tmp_path / "full")
    for row in tables("strategies"):
        part = tasks[row["task"]]
        assert {choice: row[choice] for choice in CHOICES} == pytest.approx({c: accuracy(part, c) for c in CHOICES})
        assert row["n"] == 40
    for row in tables(f"categories_{SCENES}"):
        part = [q for q in tasks[SCENES] if row["category"] in (q["doc"]["kind"], q["doc"]["level"])]
        assert row["n"] == len(part)
        assert {choice: row[choice] for choice in CHOICES} == pytest.approx({c: accuracy(part, c) for c in CHOICES})
    check_pope(tables("pope"), tasks[POPE])
    for task, part in tasks.items():
        check_selection(tables, task, part)
        check_confidence(tables, task, part)
        check_thresholds(tables, task, part)
    check_boxes(tables, tasks)
    check_cost(tables, [question["trace"] for part in tasks.values() for question in part])


def check_pope(rows: list[dict[str, Any]], part: list[Question]) -> None:
    assert len(rows) == len(CHOICES)
    for row in rows:
        chosen = [question["choices"][row["answer"].removesuffix(" *")] for question in part]
        said = [pope_answer(question["texts"][choice]) == "yes" for question, choice in zip(part, chosen, strict=True)]
        true = [question["doc"]["answer"] == "yes" for question in part]
        hits = sum(a and b for a, b in zip(said, true, strict=True))
        precision, recall = hits / sum(said), hits / sum(true)
        assert [row[name] for name in ("precision", "recall", "F1", "yes ratio")] == pytest.approx([
            100 * precision, 100 * recall, 200 * precision * recall / (precision + recall), 100 * sum(said) / len(said),
        ])  # fmt: skip


def one(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (found,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return found


def check_selection(tables: Callable[[str], list[dict[str, Any]]], task: str, part: list[Question]) -> None:
    pairs = [(question["scores"]["macro"], question["scores"]["micro"]) for question in part]
    split = one(tables("split"), task=task)
    expected = {"both right": (1, 1), "macro only": (1, 0), "micro only": (0, 1), "neither": (0, 0)}
    assert {name: split[name] for name in expected} == pytest.approx(
        {name: 100 * pairs.count(pair) / len(pairs) for name, pair in expected.items()}  # type: ignore[arg-type]
    )
    agreeing = sum(question["trace"]["decision"] == "agreement" for question in part)
    assert split["same answer"] == pytest.approx(100 * agreeing / len(part))
    differ = [question for question in part if question["scores"]["macro"] != question["scores"]["micro"]]
    selection, regret = one(tables("selection"), task=task), one(tables("regret"), task=task)
    assert selection["n"] == len(differ)
    for rule in ("own rule", "micro rule", "released rule"):
        better = sum(question["choices"][rule] == question["choices"]["oracle"] for question in differ)
        assert selection[rule] == pytest.approx(100 * better / len(differ))
        assert regret[rule] == pytest.approx(accuracy(part, "oracle") - accuracy(part, rule))


def check_confidence(tables: Callable[[str], list[dict[str, Any]]], task: str, part: list[Question]) -> None:
    for pathway in ("macro", "micro"):
        known = [question for question in part if question["trace"][pathway]]
        points = sorted((math.exp(-nll(q["trace"][pathway])), q["scores"][pathway]) for q in known)
        row = one(tables("calibration"), task=task, pathway=pathway)
        assert row["mean confidence %"] == pytest.approx(100 * np.mean([confidence for confidence, _ in points]))
        assert row["right %"] == pytest.approx(100 * np.mean([right for _, right in points]))
        above = [(a > b) + 0.5 * (a == b) for a, right in points if right for b, wrong in points if not wrong]
        assert row["AUROC %"] == pytest.approx(100 * np.mean(above))
        spread = one(tables("perplexity"), task=task, category="all", pathway=pathway)
        middle = np.median([nll(question["trace"][pathway]) for question in known])
        assert spread["median"] == pytest.approx(math.exp(middle))


def check_thresholds(tables: Callable[[str], list[dict[str, Any]]], task: str, part: list[Question]) -> None:
    def outcome(threshold: float) -> tuple[float, float]:
        """(share of the micro passes skipped, score), in per cent."""
        skip = [nll(question["trace"]["macro"]) < threshold for question in part]
        passes = [question["trace"]["micro"] is not None for question in part]
        choices = ["macro" if s else q["choices"]["own rule"] for q, s in zip(part, skip, strict=True)]
        score = np.mean([q["scores"][choice] for q, choice in zip(part, choices, strict=True)])
        return 100 * sum(a and b for a, b in zip(skip, passes, strict=True)) / sum(passes), 100 * float(score)

    everything = [0.0, *sorted(nll(question["trace"]["macro"]) for question in part), math.inf]
    full = outcome(0)[1]
    for tolerance in (0.1, 0.5):
        row = one(tables("adaptive"), task=task, threshold=f"within {tolerance} points")
        best = max(skipped for skipped, score in map(outcome, everything) if score >= full - tolerance - 1e-9)
        assert row["micro passes skipped %"] == pytest.approx(best)
    for row in tables("adaptive_curve"):
        if row["task"] == task:
            threshold = math.inf if row["NLL"] == "infinite" else row["NLL"]
            assert (row["micro passes skipped %"], row["score %"]) == pytest.approx(outcome(threshold))


def check_boxes(tables: Callable[[str], list[dict[str, Any]]], tasks: Mapping[str, list[Question]]) -> None:
    for task, part in tasks.items():
        row = one(tables("boxes"), task=task)
        boxes = [question["trace"]["grounding"]["box"] for question in part]
        areas = [(box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in boxes if box]
        assert row["usable %"] == pytest.approx(100 * len(areas) / len(part))
        assert row["median"] == pytest.approx(100 * np.median(areas))
    overlaps = []
    for question in tasks[SCENES]:
        image, box = question["trace"]["images"][0], question["trace"]["grounding"]["box"]
        width, height = image["width"], image["height"]
        mask, other = np.zeros((2, height, width), dtype=bool)
        x1, y1, x2, y2 = question["doc"]["box"]
        mask[round(y1) : round(y2), round(x1) : round(x2)] = True
        if box:
            rows = slice(round(box["y1"] * height), round(box["y2"] * height))
            other[rows, round(box["x1"] * width) : round(box["x2"] * width)] = True
        overlaps.append((mask & other).sum() / (mask | other).sum())
    # Counted in pixels, so that only the last digit can differ.
    assert one(tables("boxes"), task=SCENES)["mean IoU"] == pytest.approx(np.mean(overlaps), abs=0.01)
    sizes = [row for row in tables("object_size") if row["task"] == SCENES]
    assert sum(row["n"] for row in sizes) == 40
    together = sum(row["n"] * row["macro"] for row in sizes) / 40
    assert together == pytest.approx(accuracy(tasks[SCENES], "macro"))


def check_cost(tables: Callable[[str], list[dict[str, Any]]], traces: list[dict[str, Any]]) -> None:
    costs = [trace["cost"] for trace in traces if trace["cost"]]
    for name, field in (("images encoded", "images_encoded"), ("tokens prefilled", "tokens_prefilled"),
                        ("tokens reused", "tokens_reused"), ("decode steps", "decode_steps")):  # fmt: skip
        row = one(tables("work"), what=name)
        assert row["in all"] == sum(cost[field] for cost in costs)
        assert row["per question"] == pytest.approx(row["in all"] / len(traces))
    assert one(tables("work"), what="tokens of macro answers")["in all"] == sum(
        len(trace["macro"]["token_ids"]) for trace in traces
    )
    for phase in ("vision", "prefill", "decode"):
        seconds = sum(cost["seconds"][phase] for cost in costs)
        assert one(tables("time"), phase=phase)["seconds"] == pytest.approx(seconds)


@pytest.mark.parametrize("pathway", ["macro", "micro"])
def test_a_run_of_one_pathway_gives_the_numbers_that_the_full_run_promised(
    pathway: str, run: Run, tables: Callable[[str], list[dict[str, Any]]]
) -> None:
    alone = run("dualfocus", "eval", "--model_args", f"strategy={pathway}", *ARGUMENTS, output=pathway)
    for row in tables("strategies"):
        assert row[pathway] == pytest.approx(100 * alone.scores[row["task"]]["accuracy,none"], abs=1e-9)
    row = one([r | {"answer": r["answer"].removesuffix(" *")} for r in tables("pope")], answer=pathway)
    for metric, name in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"), ("yes_ratio", "yes ratio")):
        assert row[name] == pytest.approx(100 * alone.scores[POPE][f"{metric},none"], abs=1e-9)
    levels = {row["category"]: row[pathway] for row in tables(f"categories_{SCENES}")}
    for category, value in levels.items():
        assert value == pytest.approx(100 * alone.scores[SCENES][f"{category},none"], abs=1e-9)
