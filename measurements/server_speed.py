"""How long an answer takes on a vLLM server, and what it costs there.

    python -m measurements.server_speed --write    # into docs/server-performance.md, and the costs into docs/scale.md

The embedded checkpoint answers the same questions in process, on a vLLM server that is started here with several
numbers of requests in flight, and through lmms-eval's own ``openai`` model, which makes one pass, on the same server.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualfocus_eval.common.tables import fill_page
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.method.question import Question
from measurements.performance_page import machine
from measurements.server_runs import answer_all, forget, local, on_servers, scenes, served

PAGE = Path(__file__).parent.parent / "docs" / "server-performance.md"
SCALE = PAGE.with_name("scale.md")
CONCURRENCIES = (1, 8, 32)
SINGLE = "lmms-eval's `openai`, one pass"

PATHWAYS: dict[str, dict[str, Any]] = {
    "macro": {"strategy": "macro"},
    "micro": {"strategy": "micro"},
    "dualfocus, `own_context`, no scores": {"selection": "own_context", "score_all": False},
    "dualfocus, all rules scored": {},
}
"""Settings by what a question goes through."""


@dataclass(frozen=True)
class Row:
    """Seconds per question."""

    name: str
    at_once: int
    wall: float
    client: float | None
    """Processor seconds of this process, where the model runs in another one."""


def timed(questions: Sequence[Question], address: str) -> list[Row]:
    """Every way to answer, each on empty caches."""
    count = len(questions)
    with local() as (engine, settings):
        found = answer_all(questions, engine, settings, batch=16)
    rows = [Row("in process, two passes", 16, found.wall / count, None)]
    for concurrency in CONCURRENCIES:
        forget([address])
        with served([address], concurrency) as (engine, settings):
            found = answer_all(questions, engine, settings)
        rows.append(Row("server, two passes", concurrency, found.wall / count, found.cpu / count))
    forget([address])
    with served([address], CONCURRENCIES[-1]) as (engine, settings):
        found = answer_all(questions, engine, replace(settings, strategy="macro"))
    rows.append(Row("server, `strategy=macro`", CONCURRENCIES[-1], found.wall / count, found.cpu / count))
    macro = [trace.macro.text if trace.macro else "" for trace in found.traces]
    forget([address])
    return [*rows, _single_pass(questions, address, macro)]


def _single_pass(questions: Sequence[Question], address: str, expected: Sequence[str]) -> Row:
    """lmms-eval's own model. Raises RuntimeError where its answers are not the macro pathway's."""
    from lmms_eval.models.chat.openai import OpenAICompatible

    lm = OpenAICompatible(
        model_version="dualfocus-tiny", base_url=f"{address}/v1", api_key="none", num_concurrent=CONCURRENCIES[-1]
    )
    lm._rank = 1  # rank 0 shows a progress bar
    lm.task_dict = {"speed": {"test": questions}}
    requests = [_instance(number, question) for number, question in enumerate(questions)]
    began = time.perf_counter(), time.process_time()
    results = lm.generate_until(requests)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    different = sum(result.text.strip() != text.strip() for result, text in zip(results, expected, strict=True))
    if different > len(questions) // 50:
        raise RuntimeError(f"{SINGLE}: {different} of {len(questions)} answers differ from the macro pathway's")
    return Row(SINGLE, CONCURRENCIES[-1], wall / len(questions), cpu / len(questions))


def _instance(number: int, question: Question) -> Any:
    from lmms_eval.api.instance import Instance

    def messages(asked: Question) -> list[dict[str, Any]]:
        (picture,) = asked.images
        content = [{"type": "image", "url": picture.pixels}, {"type": "text", "text": asked.prompt}]
        return [{"role": "user", "content": content}]

    options = {"max_new_tokens": question.max_new_tokens, "temperature": 0}
    arguments = (question.prompt, messages, options, number, "speed", "test")
    metadata = {"task": "speed", "doc_id": number, "repeats": 1}
    return Instance(request_type="generate_until", arguments=arguments, idx=0, metadata=metadata)


def costs(questions: Sequence[Question], address: str) -> dict[str, Counters]:
    """What the server was asked, over all questions, by pathway; each on empty caches."""
    found = {}
    for name, changed in PATHWAYS.items():
        forget([address])
        with served([address], CONCURRENCIES[-1]) as (engine, settings):
            found[name] = answer_all(questions, engine, replace(settings, **changed)).counters
    return found


def speed_table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| system | questions at once | wall ms per question | client CPU ms per question |",
        "|---|---|---|---|",
    ]
    for row in rows:
        client = "" if row.client is None else f"{1000 * row.client:.1f}"
        lines.append(f"| {row.name} | {row.at_once} | {1000 * row.wall:.1f} | {client} |")
    return "\n".join(lines)


def cost_table(found: dict[str, Counters], count: int) -> str:
    """Markdown; all numbers are per question."""
    lines = [
        "| per question | requests | prompt tokens | of them cached | generated tokens | images by name alone |",
        "|---|---|---|---|---|---|",
    ]
    for name, spent in found.items():
        prompt = spent.tokens_prefilled + spent.tokens_reused
        figures = (
            f"{spent.requests / count:.1f}",
            f"{prompt / count:.0f}",
            f"{spent.tokens_reused / count:.0f} ({spent.tokens_reused / prompt:.0%})",
            f"{spent.decode_steps / count:.1f}",
            f"{spent.images_named / spent.images_sent:.0%}",
        )
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def conditions(count: int) -> str:
    """A sentence about where the figures are from."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{count} questions of df_scenes_mini, six about each image. {machine()}, shared by client and server; load "
        f"average (1, 5, 15 minutes) {load} at the end. Python {platform.python_version()}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, help="images with six questions each")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name} and docs/{SCALE.name}")
    options = parser.parse_args()
    questions = scenes(options.images)
    with tempfile.TemporaryDirectory() as folder, on_servers(Path(folder), 1) as (address,):
        speed = f"{speed_table(timed(questions, address))}\n\n{conditions(len(questions))}"
        cost = cost_table(costs(questions, address), len(questions))
    print(speed, cost, sep="\n\n")
    if options.write:
        fill_page(PAGE, {"server-speed": speed, "server-cost": cost})
        fill_page(SCALE, {"server-cost": cost})
    return 0


if __name__ == "__main__":
    sys.exit(main())
