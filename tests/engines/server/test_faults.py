"""What goes wrong between a server and this engine: tried again where that may help, else a failure with a name."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from dualfocus_eval.engines.base import Failure, GenerateRequest, RunEndedError, ScoreRequest
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.connecting import connect
from dualfocus_eval.engines.server.running import ServerEngine
from tests.engines.asking import ask, completed, picture
from tests.engines.server.conftest import Connect, connecting
from tests.faulty_proxy import BROKEN, PASSING, FaultyProxy, every
from tests.server_double import serving

KINDS = {
    "429": "rate_limited",
    "429 and when to ask again": "rate_limited",
    "500": "server_error",
    "503": "server_unavailable",
    "cut connection": "server_unreachable",
    "cut JSON": "bad_reply",
    "web page": "bad_reply",
    "fewer tokens": "bad_reply",
    "no log-probabilities": "no_logprobs",
    "NaN": "not_finite",
    "null": "not_finite",
    "floor": "not_finite",
}
"""Of the failure that each fault leads to."""


@pytest.fixture(scope="module")
def behind(served: str) -> Iterator[tuple[FaultyProxy, str, ServerEngine]]:
    """A proxy, its address, and an engine with one retry, connected before anything fails."""
    proxy = FaultyProxy(served)
    with serving(proxy.app) as address, connecting() as connected:
        yield proxy, address, connected(address, retries=1)


@pytest.fixture
def proxy(behind: tuple[FaultyProxy, str, ServerEngine]) -> FaultyProxy:
    proxy, _, _ = behind
    proxy.plan, proxy.probes = every(""), 0
    proxy.asked.clear()
    return proxy


@pytest.fixture
def address(behind: tuple[FaultyProxy, str, ServerEngine]) -> str:
    return behind[1]


@pytest.fixture
def engine(behind: tuple[FaultyProxy, str, ServerEngine]) -> ServerEngine:
    return behind[2]


def question(number: int = 0) -> GenerateRequest:
    return ask(picture(number, (80, 60)), f"What color is box {number}?", most=4)


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(fault: str, engine: ServerEngine, proxy: FaultyProxy) -> None:
    (expected,) = engine.generate([question()])
    proxy.asked.clear()
    retried = engine._shared.pool.retried
    before = retried.copy()
    proxy.plan = lambda number: fault if number == 0 else None
    assert engine.generate([question()]) == [expected]
    assert list(proxy.asked.values()) == [2]
    assert retried - before == {KINDS[fault]: 1}
    assert f"{KINDS[fault]} {retried[KINDS[fault]]}" in engine.warnings[-1]


@pytest.mark.parametrize("fault", [*PASSING, *BROKEN])
def test_what_does_not_is_a_failure_with_a_name(fault: str, engine: ServerEngine, proxy: FaultyProxy) -> None:
    proxy.plan = every(fault)
    (failure,) = engine.generate([question()])
    assert isinstance(failure, Failure)
    assert failure.kind == KINDS[fault]
    assert len(failure.message.splitlines()) == 1
    assert list(proxy.asked.values()) == [2 if fault in PASSING else 1]
    proxy.plan = every("")
    completed(engine.generate([question()])[0])  # the failure has left nothing behind


def test_a_score_that_is_not_finite(engine: ServerEngine, proxy: FaultyProxy) -> None:
    conversation = question().conversation
    proxy.plan = every("floor")
    (failure,) = engine.score([ScoreRequest(conversation, engine.continuation(conversation, "red"))])
    assert isinstance(failure, Failure)
    assert failure.kind == "not_finite"


def test_other_questions_do_not_fail(engine: ServerEngine, proxy: FaultyProxy) -> None:
    expected = engine.generate([question(number) for number in range(3)])
    proxy.asked.clear()
    proxy.plan = lambda number: "NaN" if number == 0 else None
    found = engine.generate([question(number) for number in range(3)])
    (failed,) = [number for number, one in enumerate(found) if isinstance(one, Failure)]
    assert [one for number, one in enumerate(found) if number != failed] == [
        one for number, one in enumerate(expected) if number != failed
    ]


def test_a_server_that_is_too_slow(address: str, connected: Connect, proxy: FaultyProxy) -> None:
    engine = connected(address, timeout=1.0, retries=0)
    proxy.plan = every("slow")
    (failure,) = engine.generate([question()])
    assert isinstance(failure, Failure)
    assert failure.kind == "timeout"
    assert "timeout" in failure.message


def test_a_fault_while_the_run_starts(address: str, connected: Connect, proxy: FaultyProxy) -> None:
    proxy.probes_fail = {0: "503", 2: "cut JSON", 5: "429"}
    engine = connected(address)
    lacking = [name for name, able in vars(engine._shared.abilities).items() if not able]
    assert lacking == ["native_scores"]  # SGLang's alone
    assert not proxy.probes_fail


def test_a_server_that_is_gone_fails_every_question_soon(served: str, connected: Connect) -> None:
    proxy = FaultyProxy(served)
    with serving(proxy.app) as address:
        engine = connected(address, retries=2, concurrency=4)
    found = engine.generate([question(number) for number in range(30)])
    assert {one.kind for one in found if isinstance(one, Failure)} == {"server_unreachable"}
    assert len(found) == 30
    assert engine._shared.pool.retried.total() <= 2 * 4  # those of the first questions, and none after that
    with serving(proxy.app, int(address.rpartition(":")[2])):
        completed(engine.generate([question()])[0])


def test_a_server_that_goes_away_leaves_its_questions_to_the_others(
    served: str, connected: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = FaultyProxy(served), FaultyProxy(served)
    questions = [question(number) for number in range(20)]  # so many that each server has some, whatever the ports
    with serving(second.app) as staying:
        with serving(first.app) as going:
            engine = connected(f"{going},{staying}", retries=2)
            expected = engine.generate(questions)
            before = second.asked.copy()
            assert first.asked
            assert second.asked
        assert engine.generate(questions) == expected
        moved = second.asked - before - before
    assert moved.keys() == first.asked.keys() - before.keys()
    assert any("its questions go to the other servers" in record.message for record in caplog.records)
    assert f"{going}/v1 did not answer and was left out once" in engine.warnings


def test_an_interruption_ends_calls_that_are_running(served: str, connected: Connect) -> None:
    """What they wait for would never come."""
    proxy = FaultyProxy(served)
    with serving(proxy.app) as address:
        engine = connected(address, timeout=600.0)
        proxy.plan = every("never")
        calls = [threading.Thread(target=_interrupted, args=(engine, number)) for number in range(3)]
        for call in calls:
            call.start()
        while proxy.asked.total() < len(calls):
            threading.Event().wait(0.01)
        engine.interrupt()
        for call in calls:
            call.join()
        proxy.plan = every("")
        completed(engine.call_engine().generate([question()])[0])


def _interrupted(engine: ServerEngine, number: int) -> None:
    with pytest.raises(RunEndedError, match="interrupted"):
        engine.call_engine().generate([question(number)])


@pytest.mark.usefixtures("ctrl_c")
def test_an_interruption_while_a_server_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()

    async def wait(*arguments: object) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr("dualfocus_eval.engines.server.connecting._connect", wait)
    with pytest.raises(KeyboardInterrupt):
        connect(ServerConfig(base_url="http://localhost:1"))
    assert cancelled.is_set()


def test_tries_before_the_run_begins_are_told(
    address: str, connected: Connect, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.probes_fail = {0: "503"}
    connected(address)
    (told,) = [record.message for record in caplog.records if "trying again" in record.message]
    assert f"{address}/v1: the server is not available (503): a fault; trying again in " in told
