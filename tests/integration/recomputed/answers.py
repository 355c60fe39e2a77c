"""A run's files as one table: a row per question with its document, its trace and what each choice of it scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tests.integration.recomputed.scoring import BENCHMARKS, benchmark_of

__all__ = ["Answers", "nll", "read_answers"]

RULES = ("own_context", "micro_context", "released")


@dataclass(frozen=True)
class Answers:
    """``questions`` has a row per question. Of a candidate NAME: ``NAME_text``, ``NAME_nll``, ``NAME_tokens`` (NaN
    without one) and ``NAME_scores`` (by metric, micro falling back to macro). Of a choice: ``take CHOICE``, the
    candidate that it takes. ``image``, ``grounding``, ``cost`` and ``decision`` are the trace's, ``doc`` and ``sample``
    the files' own.
    """

    file: Path
    results: Mapping[str, Any]
    questions: pd.DataFrame

    @property
    def record(self) -> Mapping[str, Any]:
        """What the model left in the results."""
        record: Mapping[str, Any] = self.results["dualfocus"]
        return record

    @property
    def both(self) -> bool:
        """Whether questions were answered in two passes."""
        return bool(self.record["settings"]["strategy"] == "dualfocus")

    @property
    def choices(self) -> Sequence[str]:
        """The ways to take an answer that the report shows."""
        return ("macro", "micro", *RULES, "oracle") if self.both else ("selected",)

    @property
    def headings(self) -> Sequence[str]:
        """Those of their columns; a star marks the rule that decided."""
        deciding = self.record["settings"]["selection"]
        return [f"{choice} *" if choice == deciding else choice for choice in self.choices]

    @property
    def tasks(self) -> dict[str, pd.DataFrame]:
        """The rows of each task, in the order of the run."""
        return dict(iter(self.questions.groupby("task", sort=False)))

    def main_metric(self, task: str) -> str:
        """The first of the task's metrics."""
        return str(self.results["configs"][task]["metric_list"][0]["metric"])


def read_answers(folder: Path) -> Answers:
    """The one run below ``folder``; every question must have its sample and its trace."""
    (file,) = folder.glob("*_results.json")
    results = json.loads(file.read_text())
    lines = [line for path in sorted((folder / "traces").glob("*.jsonl")) for line in path.read_text().splitlines()]
    traces = {trace["key"]: trace for trace in map(json.loads, lines)}
    rows = []
    for task in results["n-samples"]:
        docs = pd.read_parquet(results["configs"][task]["dataset_kwargs"]["data_files"]["test"])
        path = file.with_name(file.name.replace("_results.json", f"_samples_{task}.jsonl"))
        samples = sorted(map(json.loads, path.read_text().splitlines()), key=lambda sample: int(sample["doc_id"]))
        for sample in samples:
            doc = docs.iloc[sample["doc_id"]].to_dict()
            rows.append(_question(task, doc, sample, traces.pop(f"{task}/{sample['doc_id']}")))
    assert not traces, f"traces without a sample: {list(traces)}"
    return Answers(file, results, pd.DataFrame(rows))


def nll(logprobs: Sequence[float]) -> float:
    """Mean negative log-likelihood per token."""
    return -math.fsum(logprobs) / len(logprobs)


def _question(task: str, doc: Mapping[str, Any], sample: Mapping[str, Any], trace: Mapping[str, Any]) -> dict[str, Any]:
    row = {"task": task, "key": trace["key"], "doc": doc, "sample": sample, "image": trace["images"][0]["digest"]}
    row |= {name: trace[name] for name in ("images", "grounding", "decision", "cost", "error")}
    candidates = {"macro": trace["macro"], "micro": trace["micro"], "box": (trace["grounding"] or {}).get("response")}
    score = BENCHMARKS[benchmark_of(task)]
    for name, completion in candidates.items():
        row[f"{name}_text"] = completion["text"] if completion else None
        row[f"{name}_nll"] = nll(completion["logprobs"]) if completion else math.nan
        row[f"{name}_tokens"] = len(completion["token_ids"]) if completion else math.nan
    for name, other in (("macro", "micro"), ("micro", "macro")):
        found = candidates[name] or candidates[other]
        row[f"{name}_scores"] = score(doc, found["text"].strip())
    macro, micro = row["macro_scores"]["score"], row["micro_scores"]["score"]
    row |= {"score_macro": float(macro), "score_micro": float(micro)}
    row |= {"take macro": "macro", "take micro": "micro", "take oracle": "micro" if micro > macro else "macro"}
    row |= {f"take {rule}": pick for rule, pick in _picks(trace).items()}
    row |= {f"compared by {rule}": nlls for rule, nlls in _compared(trace).items()}
    row["take selected"] = row["selected"] = trace["selected"]
    assert row[f"score_{trace['selected']}"] == sample["score"], f"{trace['key']} is scored otherwise by lmms-eval"
    return row


def _picks(trace: Mapping[str, Any]) -> Mapping[str, str]:
    """What each rule picks, by Eq. 8 where likelihoods decided."""
    if not trace["picks"]:
        return dict.fromkeys(RULES, trace["selected"])
    if trace["decision"] != "nll":
        return {rule: str(trace["picks"][rule]) for rule in RULES}
    return {rule: "macro" if macro < micro else "micro" for rule, (macro, micro) in _compared(trace).items()}


def _compared(trace: Mapping[str, Any]) -> Mapping[str, tuple[float, float]]:
    """The NLLs of both candidates between which each rule decided; NaN where likelihoods did not."""
    if trace["decision"] != "nll":
        return dict.fromkeys(RULES, (math.nan, math.nan))
    scores, box = trace["scores"], trace["grounding"]["response"]["logprobs"]
    return {
        "own_context": (nll(trace["macro"]["logprobs"]), nll(trace["micro"]["logprobs"])),
        "micro_context": (nll(scores["macro"]), nll(scores["micro"])),
        "released": (nll(box + scores["macro"]), nll(box + scores["micro"])),
    }
