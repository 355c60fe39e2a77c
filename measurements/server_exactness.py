"""Whether a vLLM server gives the answers of the engine in this process.

    python -m measurements.server_exactness --limit 500 --write     # docs/exactness.md and docs/exactness-server.csv

Embedded sets are answered twice by the embedded checkpoint in float32, in process and by a server that is started here
(`measurements.vllm_server`), as runs of ``dualfocus eval``. Their traces are joined and compared question by question.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Completion
from dualfocus_eval.method.selection import costs_of
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.trace_files import join_traces
from measurements.server_exactness_page import PAGE, Row, write_rows
from measurements.vllm_server import serving

__all__ = ["Agreement", "agreement", "answered", "compare_set", "main"]

SETS = {"df_pope_mini": 3, "df_scenes_mini": 1}
"""Embedded sets, and into how many tasks lmms-eval's limit goes."""
TOLERANCE = 1e-3
"""Agreement of log-probabilities, and the gap of the two best below which an answer may come out otherwise."""
MAX_PARTED = 0.01


@dataclass
class Agreement:
    """How the server's answers compare with those in process."""

    questions: int = 0
    equal: int = 0
    """Questions whose generated tokens, box, crop and selection are all equal."""
    parted: list[str] = field(default_factory=list)
    """Questions that differ from where the choice in process was closer than the tolerance."""
    wrong: list[str] = field(default_factory=list)
    """Questions that differ otherwise, or that have no answer."""
    worst_own: float = 0.0
    """Largest difference of the log-probabilities of generated tokens, in nats, before questions part."""
    worst_scores: float = 0.0
    """The same of both candidates in micro context."""

    @property
    def holds(self) -> bool:
        close = max(self.worst_own, self.worst_scores) <= TOLERANCE
        return bool(self.questions) and not self.wrong and close and len(self.parted) <= MAX_PARTED * self.questions

    def row(self, name: str) -> Row:
        """It as a row of the page."""
        counts = (self.questions, self.equal, len(self.parted), len(self.wrong))
        return Row(name, *counts, self.worst_own, self.worst_scores)


def agreement(in_process: Path, server: Path) -> Agreement:
    """Compare the traces in two folders."""
    result = Agreement()
    expected, found = _traces(in_process), _traces(server)
    result.wrong += [f"{key[0]}: answered in one run only" for key in sorted(expected.keys() ^ found.keys())]
    for key in expected.keys() & found.keys():
        result.questions += 1
        difference = _first_difference(expected[key], found[key], result)
        if difference is None:
            result.equal += 1
        else:
            what, gap = difference
            differing = result.parted if gap is not None and gap < TOLERANCE else result.wrong
            differing.append(f"{key[0]}: {what} (gap {gap})")
    return result


def _traces(folder: Path) -> dict[tuple[str, str], Trace]:
    return {(trace.key, trace.question_digest): trace for trace in join_traces(folder)}


def _first_difference(old: Trace, new: Trace, result: Agreement) -> tuple[str, float | None] | None:
    """What differs first in the order of the passes, and how close the choice in process was; None for equal traces.

    Log-probabilities are compared on the way.
    """
    if old.error or new.error:
        return f"failed: {old.error or new.error}", None
    for what, mine, theirs in _completions(old, new):
        if mine is None or theirs is None:
            if mine is not theirs:
                return what, None
            continue
        if (mine.token_ids, mine.text, mine.finish) != (theirs.token_ids, theirs.text, theirs.finish):
            return what, mine.gap
        result.worst_own = max(result.worst_own, _apart(mine.logprobs, theirs.logprobs))
    for what, mine, theirs in _read_off(old, new):
        if mine != theirs:
            return f"{what} {mine} instead of {theirs}", None
    if old.scores and new.scores:
        pairs = ((old.scores.macro, new.scores.macro), (old.scores.micro, new.scores.micro))
        result.worst_scores = max(result.worst_scores, *(_apart(*pair) for pair in pairs))
    return _other_choice(old, new)


def _completions(old: Trace, new: Trace) -> Iterator[tuple[str, Completion | None, Completion | None]]:
    yield "macro answer", old.macro, new.macro
    yield (
        "grounding response",
        old.grounding.response if old.grounding else None,
        new.grounding.response if new.grounding else None,
    )
    yield "micro answer", old.micro, new.micro


def _read_off(old: Trace, new: Trace) -> Iterator[tuple[str, object, object]]:
    """What equal texts must lead to."""
    yield "box", old.grounding and old.grounding.box, new.grounding and new.grounding.box
    yield "crop", old.grounding and old.grounding.crop, new.grounding and new.grounding.crop
    yield "fallback", old.fallback, new.fallback
    yield "what is scored", old.scores and old.scores.scored, new.scores and new.scores.scored


def _other_choice(old: Trace, new: Trace) -> tuple[str, float | None] | None:
    """The first rule that picks another candidate, and how far apart its costs were."""
    costs = costs_of(old)
    for rule in old.picks.keys() | new.picks.keys():
        if old.picks.get(rule) != new.picks.get(rule):
            macro, micro = costs.get(rule) or (math.inf, 0.0)
            return f"pick of {rule}", abs(macro - micro)
    if (old.selected, old.decision, old.text) != (new.selected, new.decision, new.text):
        return f"selected {new.selected} instead of {old.selected}", None
    return None


def _apart(old: Sequence[float], new: Sequence[float]) -> float:
    if len(old) != len(new):
        return math.inf
    return max((abs(a - b) for a, b in zip(old, new, strict=True)), default=0.0)


def answered(folder: Path, task: str, questions: int, *model_args: str) -> Path:
    """Run ``dualfocus eval`` on ``questions`` of the set ``task``; the folder of its results. Raises ``UserError``
    where it does not end well."""
    limit = math.ceil(questions / SETS[task])
    command = [
        sys.executable, "-m", "dualfocus_eval", "eval", "--tasks", task, "--limit", str(limit), "--log_samples",
        "--batch_size", "16", "--output_path", str(folder),
    ]  # fmt: skip
    if model_args:
        command += ["--model_args", ",".join(model_args)]
    private = {"XDG_CACHE_HOME": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=os.environ | private, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return folder


def compare_set(folder: Path, task: str, questions: int, base_url: str) -> Agreement:
    """Answer ``task`` in process and by the server at ``base_url``, and compare."""
    mine = answered(folder / "in_process" / task, task, questions)
    theirs = answered(folder / "server" / task, task, questions, "engine=server", f"base_url={base_url}")
    return agreement(mine / "traces", theirs / "traces")


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the sets; exit status 1 where what is promised does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m measurements.server_exactness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--limit", type=int, default=500, help="questions of each set (default: %(default)s)")
    parser.add_argument("--base_url", help="a server of the embedded checkpoint that runs already")
    parser.add_argument("--write", action="store_true", help=f"write the table of {PAGE.name} and the rows beside it")
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if chosen.base_url:
            found = _compare_all(folder, chosen.limit, chosen.base_url)
        else:
            with serving(folder) as running:
                found = _compare_all(folder, chosen.limit, running.base_url)
    if chosen.write:
        write_rows([result.row(task) for task, result in found.items()])
    return 0 if all(result.holds for result in found.values()) else 1


def _compare_all(folder: Path, questions: int, base_url: str) -> dict[str, Agreement]:
    found = {}
    for task in SETS:
        found[task] = result = compare_set(folder, task, questions, base_url)
        print(result.row(task), "holds" if result.holds else "DOES NOT HOLD", flush=True)
        for line in [*result.parted, *result.wrong][:20]:
            print("   ", line, file=sys.stderr)
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
