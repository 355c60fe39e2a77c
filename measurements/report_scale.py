"""Time and memory of ``dualfocus report`` on a made-up run of 100,000 questions.

The files are those that lmms-eval and the trace store write, for prepared SEED-Bench and POPE sets of made-up
questions; the report is made by the real command in a process of its own.

    python -m measurements.report_scale [--questions N] [--write]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualfocus_eval.analysis.scoring import load_tasks
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.common.tables import Number, Table, fill_page, to_markdown
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.method.boxes import BoxOutcome
from dualfocus_eval.method.question import AnswerKind
from dualfocus_eval.method.selection import RULES, picks
from dualfocus_eval.method.selection.base import Candidates
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import ContextScores, Cost, Decision, Grounding, ImageInfo, Pathway, Trace

PAGE = Path("docs/reports.md")
LIMIT_SECONDS, LIMIT_GB = 60, 2
"""On two cores."""
QUESTIONS_PER_IMAGE = 5
BATCH = 16
SECONDS = dict.fromkeys(("preprocess", "vision", "prefill", "decode"), 0.1)
KEY = "made-up"


@dataclass(frozen=True)
class Made:
    """A benchmark of made-up questions."""

    task: str
    prepared: str
    share: float
    kind: AnswerKind
    answers: tuple[str, ...]


MADE = (
    Made("df_seed_img", "seed-img/test", 0.6, AnswerKind.OPTION, ("A", "B", "C", "D")),
    Made("df_pope_random", "pope/random", 0.4, AnswerKind.YES_NO, ("yes", "no")),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; status 1 where a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m measurements.report_scale", description=__doc__)
    parser.add_argument("--questions", type=int, default=100_000, metavar="N")
    parser.add_argument("--write", action="store_true", help=f"fill the table of {PAGE}")
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        root, folder = Path(scratch) / "data", Path(scratch) / "run"
        os.environ |= {"DUALFOCUS_DATA": str(root), "HF_HOME": str(Path(scratch) / "cache"), "HF_HUB_OFFLINE": "1"}
        write_run(root, folder, chosen.questions)
        size = sum(path.stat().st_size for path in folder.rglob("*.jsonl"))
        seconds, processor, peak = report(folder, Path(scratch) / "report")
    rows = (
        ("questions", chosen.questions),
        ("trace and sample files, GB", Number(size / 1e9, decimals=2)),
        ("wall time, s", Number(seconds)),
        ("processor time, s", Number(processor)),
        ("peak memory, GB", Number(peak, decimals=2)),
        ("cores", os.cpu_count()),
    )
    table = Table("Scale", ("what", "value"), (rows,))
    print(to_markdown(table))
    if chosen.write:
        fill_page(PAGE, {"scale": to_markdown(table)})
    return int(seconds > LIMIT_SECONDS or peak > LIMIT_GB)


def write_run(root: Path, folder: Path, questions: int) -> None:
    """Write prepared sets below ``root`` and the files of a run over them below ``folder``."""
    import pandas as pd

    draw, traces = random.Random(0), folder / "traces"
    traces.mkdir(parents=True)
    counts = {made: round(made.share * questions) for made in MADE}
    for made, count in counts.items():
        benchmark, split = made.prepared.split("/")
        (root / benchmark).mkdir(parents=True)
        pd.DataFrame(_docs(made, count, draw)).to_parquet(root / benchmark / f"{split}.parquet")
        manifest = {"format": 1, "splits": {split: {"rows": count}}, "left_out": []}
        (root / benchmark / "manifest.json").write_text(json.dumps(manifest))
    tasks, faults = load_tasks([made.task for made in MADE])
    if faults:
        raise RuntimeError(str(faults))
    with (traces / "traces.rank0000.jsonl").open("w") as file:
        for made in MADE:
            with (folder / f"1_samples_{made.task}.jsonl").open("w") as samples:
                for doc_id, doc in enumerate(tasks[made.task].eval_docs_no_media):
                    trace = _trace(made, doc_id, draw)
                    file.write(trace.to_json() + "\n")
                    metrics = tasks[made.task].process_results(doc, [trace.text])
                    samples.write(json.dumps(_sample(doc_id, doc, trace, metrics)) + "\n")
    (folder / "1_results.json").write_text(json.dumps(_results(tasks, counts, traces)))


def report(folder: Path, out: Path) -> tuple[float, float, float]:
    """Wall time and processor time in seconds and peak memory in GB of the real command."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "dualfocus_eval", "report", str(folder), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    if status:
        raise RuntimeError(f"dualfocus report ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def _docs(made: Made, count: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    for number in range(count):
        image = f"image-{number // QUESTIONS_PER_IMAGE:06}"
        answer = draw.choice(made.answers)
        if made.kind is AnswerKind.OPTION:
            options = {f"choice_{letter}": f"something {letter}" for letter in "abcd"}
            yield {
                "question_id": str(number), "question": f"What is at place {number}?", "answer": answer, **options,
                "data_id": image, "data_type": "image", "question_type_id": 1 + number % 9,
            }  # fmt: skip
        else:
            yield {
                "id": str(number), "question_id": str(number), "question": "Is there a dog in the image?",
                "answer": answer, "image_source": image, "category": "random",
            }  # fmt: skip


def digest_of(made: Made, number: int) -> str:
    """Names an image as a trace does."""
    return hashlib.blake2b(f"{made.task}-{number}".encode(), digest_size=16).hexdigest()


def _trace(made: Made, doc_id: int, draw: random.Random) -> Trace:
    macro, micro = (_completion(draw.choice(made.answers), 2, draw) for _ in range(2))
    grounding_response = _completion("[0.10, 0.20, 0.40, 0.60]", 10, draw)
    macro_context, micro_context = (tuple(-draw.expovariate(2) for _ in range(2)) for _ in range(2))
    scores = ContextScores("answer", macro_context, micro_context)
    agree = macro.text == micro.text
    decided = picks(Candidates(macro, micro, grounding_response, scores))
    chosen: Mapping[str, Pathway] = dict.fromkeys(RULES.items, "macro") if agree else decided
    x, y, side = draw.uniform(0, 0.5), draw.uniform(0, 0.5), draw.uniform(0.05, 0.5)
    return Trace(
        key=f"{made.task}/{doc_id}",
        question_digest=f"{draw.getrandbits(128):032x}",
        settings_key=KEY,
        kind=made.kind,
        images=(ImageInfo(digest_of(made, doc_id // QUESTIONS_PER_IMAGE), 640, 480),),
        macro=macro,
        micro=micro,
        grounding=Grounding(grounding_response, BoxOutcome.OK, Box(x, y, x + side, y + side), Crop(10, 20, 200, 210)),
        scores=None if agree else scores,
        picks=chosen,
        selected=chosen[Settings().selection],
        decision=Decision.AGREEMENT if agree else Decision.NLL,
        cost=Cost(
            BATCH, BATCH, 9_000, 20_000, 230, 0, dict.fromkeys(("preprocess", "vision", "prefill", "decode"), 0.1)
        )
        if doc_id % BATCH == 0
        else None,
    )


def _completion(text: str, tokens: int, draw: random.Random) -> Completion:
    logprobs = tuple(-draw.expovariate(3) for _ in range(tokens))
    return Completion(text, tuple(range(100, 100 + tokens)), logprobs, "eos", gap=0.1)


def _sample(doc_id: int, doc: Mapping[str, Any], trace: Trace, metrics: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"input": doc["question"], "target": doc["answer"], "filtered_resps": trace.text}
    return {"doc_id": doc_id, **shown, "doc_hash": "0" * 64, "token_counts": [{"output_tokens": 14}], **metrics}


def _results(tasks: Mapping[str, Any], counts: Mapping[Made, int], traces: Path) -> dict[str, Any]:
    settings = asdict(Settings())
    record = {
        "settings": settings,
        "settings_from": dict.fromkeys(settings, "default"),
        "settings_key": KEY,
        "traces": str(traces),
        "engine": {"pretrained": KEY, "revision": None, "image_aspect": "checkpoint"},
        "summary": {"failures": {}, "fallbacks": {}, "resumed": 0},
    }
    metrics = {name: [{"metric": metric} for metric in task.aggregation()] for name, task in tasks.items()}
    return {
        "results": {name: {"accuracy,none": 0.5} for name in tasks},
        "configs": {name: {"metric_list": found, "cluster_key": "image_id"} for name, found in metrics.items()},
        "n-samples": {made.task: {"effective": count} for made, count in counts.items()},
        "config": {"model": "dualfocus", "resolved_cli_args": {"dualfocus": record}},
        "total_evaluation_time_seconds": "1000",
    }


if __name__ == "__main__":
    sys.exit(main())
