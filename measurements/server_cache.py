"""How much of the prompts vLLM takes from its prefix cache, beside what the engine in process reuses.

    python -m measurements.server_cache --write    # into docs/server-performance.md

Real vLLM servers, which it starts itself, answer questions about images with six questions each, and its own metrics
say what share of the prompt tokens they found in their caches: one server, two servers of which one answers all
questions about an image (as in a run), and two servers that take turns request by request.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dualfocus_eval.common.tables import fill_page
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.engines.server.running import ServerEngine
from dualfocus_eval.engines.server.server import Server
from dualfocus_eval.method.question import Question
from measurements.server_runs import answer_all, cached, forget, local, on_servers, scenes, served

PAGE = Path(__file__).parent.parent / "docs" / "server-performance.md"
CONCURRENCY = 32
ONE, TWO, TURNS = "one server", "two servers", "two servers, without affinity"
WANTED = {ONE: 0.9, TWO: 0.85}
"""The least share of a run as it is by default, in parts of the share in process."""

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One way to answer all questions."""

    name: str
    work: str
    share: float
    """Of the prompt tokens, those that were not computed."""
    computed: float
    """Prompt tokens per question that were."""
    requests: float
    """Per question; 0 in process."""


ALL_RULES = "two passes, all rules scored"
WORK = {ALL_RULES: {}, "two passes, no scores": {"selection": "own_context", "score_all": False}}
"""Settings by what they make the engine do."""


class _Turns:
    """A pool that asks its servers in turn, whatever a request is about."""

    def __init__(self, pool: Any) -> None:
        self._pool, self.servers, self._number = pool, pool.servers, itertools.count()

    async def ask(self, key: str, send: Callable[[Server], Awaitable[T]]) -> T:
        server = self.servers[next(self._number) % len(self.servers)]
        found: T = await self._pool.ask(key, lambda _: send(server))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def in_process(questions: Sequence[Question], work: str) -> Row:
    """The engine in process, a batch being the questions about one image."""
    with local() as (engine, settings):
        found = answer_all(questions, engine, replace(settings, **WORK[work]), batch=6)  # type: ignore[arg-type]
    return Row("in process", work, found.share, found.counters.tokens_prefilled / len(questions), 0.0)


def on_server(name: str, questions: Sequence[Question], work: str, addresses: Sequence[str]) -> Row:
    """The servers at ``addresses``, whose caches are empty at first."""
    forget(addresses)
    with served(addresses, CONCURRENCY) as (engine, settings):
        if name == TURNS:
            _take_turns(engine)
        before = cached(addresses)
        found = answer_all(questions, engine, replace(settings, **WORK[work]))  # type: ignore[arg-type]
        spent = cached(addresses) - before
    each = (spent.queries - spent.hits) / len(questions)
    return Row(name, work, spent.share, each, found.counters.requests / len(questions))


def _take_turns(engine: RunEngine) -> None:
    assert isinstance(engine, ServerEngine)
    engine._shared.pool = _Turns(engine._shared.pool)  # type: ignore[assignment]


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| work | where | requests per question | prompt tokens computed per question | reused | ÷ in process |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        requests = f"{row.requests:.1f}" if row.requests else ""
        figures = f"{requests} | {row.computed:.0f} | {row.share:.1%} | {relative(row, rows):.2f}"
        lines.append(f"| {row.work} | {row.name} | {figures} |")
    return "\n".join(lines)


def relative(row: Row, rows: Sequence[Row]) -> float:
    """Its share in parts of that in process."""
    (base,) = (one.share for one in rows if one.work == row.work and one.name == "in process")
    return row.share / base


def missed(rows: Sequence[Row]) -> list[str]:
    """What is not as it is wanted."""
    problems = [
        f"{row.work}, {row.name}: {relative(row, rows):.2f} of the share in process, {WANTED[row.name]} is wanted"
        for row in rows
        if row.work == ALL_RULES and row.name in WANTED and relative(row, rows) < WANTED[row.name]
    ]
    by_name = {(row.work, row.name): row.share for row in rows}
    return problems + [f"{work}: affinity gains nothing" for work in WORK if by_name[work, TURNS] >= by_name[work, TWO]]


def measure(images: int) -> list[Row]:
    """All rows, from fresh servers."""
    questions = scenes(images)
    rows = [in_process(questions, work) for work in WORK]
    with tempfile.TemporaryDirectory() as folder, on_servers(Path(folder), 2) as addresses:
        for work in WORK:
            rows.append(on_server(ONE, questions, work, addresses[:1]))
            rows += [on_server(name, questions, work, addresses) for name in (TWO, TURNS)]
    return sorted(rows, key=lambda row: list(WORK).index(row.work))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40, help="images with six questions each")
    parser.add_argument("--write", action="store_true", help=f"write the table into docs/{PAGE.name}")
    options = parser.parse_args()
    rows = measure(options.images)
    print(table(rows))
    if options.write:
        fill_page(PAGE, {"server-cache": table(rows)})
    problems = missed(rows)
    print(*problems, sep="\n", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
