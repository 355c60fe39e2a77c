"""The table at the end of a run."""

from __future__ import annotations

import io

from rich.console import Console

from dualfocus_eval.engines.base import Counters, Failure
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.harness.summary import Summary, print_failures, print_summary
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import Trace
from tests.method.test_pipeline import ask, rule
from tests.scripted_engine import ScriptedEngine


def test_what_comes_from_files_does_not_act_on_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=200)
    summary = Summary(questions=1)
    summary.failures["unsupported_[red]\x1b[2J"] += 1
    print_summary(summary, "runs/[bold]\n::error::y", ["--gen_kwargs\n::error::x"], console)
    print_failures("1 of 1 questions failed\n##[error]z", console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "unsupported_[red]\\x1b[2J" in shown
    assert "runs/[bold]\\x0a" in shown
    assert "\x1b[2J" not in shown
    assert not any(line.lstrip().startswith(("::", "##[")) for line in shown.splitlines())


def test_why_states_are_not_reused_stands_below_the_table() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_summary(Summary(), "runs", (), console, no_reuse="a reason")
    print_summary(Summary(), "runs", (), console, limited_reuse=FAMILIES["llava_onevision"].limited_reuse)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert [line for line in shown.splitlines() if "reuse" in line and "reused" not in line] == [
        "no prefix reuse: a reason",
        "no prefix reuse by the second pass: an image is cut into fewer tiles when its crop follows it",
    ]


def test_why_second_passes_failed_stands_below_the_table() -> None:
    dropped = Failure("chat_template", "the template drops turns; use another")
    questions = [ask(key="a"), ask(key="b")]
    parts = []
    for trace in answer(questions, ScriptedEngine(rule(micro=dropped)), Settings()):
        parts.append(Summary())
        parts[-1].add_trace(trace)
    console = Console(file=io.StringIO(), width=200)
    print_summary(Summary.merged(parts), "runs", (), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.splitlines()[-1] == "warning: chat_template (2 questions): the template drops turns; use another"


def test_a_run_without_any_box_says_so() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_summary(Summary(questions=3, grounded=2, boxes_parsed=1), "runs", (), console)
    print_summary(Summary(questions=3), "runs", (), console)
    print_summary(Summary(questions=3, grounded=2), "runs", (), console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "warning" in line]  # type: ignore[attr-defined]
    assert line.startswith("warning: no box was found for any of 2 questions, so all of them have the macro answer;")


def test_a_stored_trace_counts_like_a_new_one() -> None:
    new, stored = Summary(), Summary()
    for trace in answer([ask()], ScriptedEngine(rule(macro="Blue.", micro="blue")), Settings()):
        new.add_trace(trace)
        stored.add_trace(Trace.from_json(trace.to_json()))
    assert new.agreeing == 1
    assert new.as_dict() == stored.as_dict()


def test_what_servers_do_not_say_is_no_number() -> None:
    console = Console(file=io.StringIO(), width=200)
    summary = Summary()
    summary.add_counters(
        Counters(tokens_prefilled=30, tokens_reused=10, requests=4, tokens_untold=20, images_sent=8, images_named=2)
    )
    print_summary(summary, "runs", (), console)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert "│ images sent │ 8 │" in lines
    assert "│ by name alone │ 2 of 8 (25.0%) │" in lines
    assert "│ of them from the server's cache │ 10 of 20 (50.0%) │" in lines
    assert not any("images encoded" in line for line in lines)
    untold = Console(file=io.StringIO(), width=200)
    print_summary(Summary(requests=1, tokens_prefilled=9, tokens_untold=9), "runs", (), untold)
    assert "not told by the server" in untold.file.getvalue()  # type: ignore[attr-defined]
