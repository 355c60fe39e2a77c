"""A server that is replaced by another in mid-run: noticed before any answer of the new one is used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Completion, RunEndedError
from dualfocus_eval.engines.server.fingerprint import Fingerprint
from dualfocus_eval.engines.server.process_watch import ProcessWatch
from tests.engines.asking import ask, picture
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.faulty_proxy import FaultyProxy
from tests.server_double import ServerDouble, serving

REQUESTS = [ask(picture(number, (80, 60)), "What color is the box?", most=4) for number in range(4)]


@contextmanager
def replaceable() -> Iterator[tuple[str, Any]]:
    """A server's address, and a function that puts another one in its place."""
    with ExitStack() as first:
        address = first.enter_context(serving(ServerDouble(Path(EMBEDDED)).app))
        with ExitStack() as second:

            def replace(checkpoint: Path, **arguments: Any) -> ServerDouble:
                first.close()
                double = ServerDouble(checkpoint, **arguments)
                second.enter_context(serving(double.app, int(address.rpartition(":")[2])))
                return double

            yield address, replace


def test_another_checkpoint(connected: Connect, other_checkpoint: Path) -> None:
    with replaceable() as (address, replace):
        engine = connected(address, retries=2)
        assert all(isinstance(one, Completion) for one in engine.generate(REQUESTS))
        replace(other_checkpoint)
        with pytest.raises(RunEndedError) as caught:
            engine.generate(REQUESTS)
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"{address}/v1: the server was replaced in mid-run: it now has other probabilities")
        assert "pass a new trace_dir or --output_path" in line
        with pytest.raises(RunEndedError):
            engine.generate(REQUESTS[:1])


def test_the_same_checkpoint_again(connected: Connect) -> None:
    with replaceable() as (address, replace):
        engine = connected(address, retries=3)
        expected = engine.generate(REQUESTS)
        double = replace(Path(EMBEDDED))
        assert engine.generate(REQUESTS) == expected  # images that only the first one knew by name are sent again
        assert len(double.images) == len(REQUESTS)


def test_another_configuration(connected: Connect) -> None:
    with replaceable() as (address, replace):
        engine = connected(address, retries=2)
        engine.generate(REQUESTS)
        replace(Path(EMBEDDED), fingerprint="vllm-0.32.0-01010101")
        with pytest.raises(RunEndedError, match=r"system_fingerprint .* in the place of"):
            engine.generate(REQUESTS)


def test_behind_a_proxy_that_keeps_its_connections(connected: Connect, other_checkpoint: Path) -> None:
    """Requests fail while the server behind it is replaced, and none of its connections ends."""
    with serving(ServerDouble(Path(EMBEDDED)).app) as first, serving(ServerDouble(other_checkpoint).app) as second:
        proxy = FaultyProxy(first)
        with serving(proxy.app) as address:
            engine = connected(address, retries=2)
            assert all(isinstance(one, Completion) for one in engine.generate(REQUESTS))
            proxy.target, proxy.asked = second, type(proxy.asked)()
            proxy.plan = lambda number: "503" if number == 0 else None
            with pytest.raises(RunEndedError, match="other probabilities"):
                engine.generate(REQUESTS[:1])


class Changing(ServerDouble):
    """Says with every reply that another one answered, as OpenAI's API may."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return super().answer(body) | {"system_fingerprint": f"fp_{len(self.asked)}"}


def test_a_fingerprint_that_changes_with_every_reply_tells_nothing(connected: Connect) -> None:
    with serving(Changing(Path(EMBEDDED)).app) as address:
        engine = connected(address)
        assert all(isinstance(one, Completion) for one in engine.generate(REQUESTS))
        assert connected(address).arithmetic == engine.arithmetic  # or no stored answer would be reused


def watched(watch: ProcessWatch, *ports: int) -> list[Any]:
    """A response over a new connection for each of the client's ``ports``."""
    responses = []
    for port in ports:
        stream = SimpleNamespace(get_extra_info=lambda name, port=port: ("127.0.0.1", port))
        asyncio.run(watch.trace("connection.connect_tcp.complete", {"return_value": stream}))
        responses.append(SimpleNamespace(extensions={"network_stream": stream}))
    return responses


async def verifications(watch: ProcessWatch, *events: int) -> int:
    """How many it takes to settle all ``events``, which come at the same time."""
    count = 0

    async def verify() -> None:
        nonlocal count
        await asyncio.sleep(0)
        count += 1

    await asyncio.gather(*(watch.settle(event, verify) for event in events))
    return count


def test_one_verification_serves_all_answers_that_came_before_it() -> None:
    watch = ProcessWatch()
    first, second, third = watched(watch, 1, 2, 3)
    events = [watch.event_of(one) for one in (first, second, third)]
    assert asyncio.run(verifications(watch, *events)) == 1
    assert asyncio.run(verifications(watch, *events, watch.event_of(second))) == 0
    (fourth,) = watched(watch, 4)
    assert asyncio.run(verifications(watch, watch.event_of(first))) == 0  # its connection is the verified one still
    assert asyncio.run(verifications(watch, watch.event_of(fourth))) == 1
    watch.failed()
    assert asyncio.run(verifications(watch, watch.event_of(first))) == 1


def test_a_connection_that_opens_during_a_verification_is_not_covered_by_it() -> None:
    watch = ProcessWatch()
    (first,) = watched(watch, 1)
    late: list[int] = []

    async def verify() -> None:
        stream = SimpleNamespace(get_extra_info=lambda name: ("127.0.0.1", 2))
        await watch.trace("connection.connect_tcp.complete", {"return_value": stream})
        late.append(watch.event_of(SimpleNamespace(extensions={"network_stream": stream})))  # type: ignore[arg-type]

    asyncio.run(watch.settle(watch.event_of(first), verify))
    assert asyncio.run(verifications(watch, late[0])) == 1


def test_answers_over_verified_connections_do_not_wait() -> None:
    watch = ProcessWatch()
    (first,) = watched(watch, 1)
    assert asyncio.run(verifications(watch, watch.event_of(first))) == 1
    (second,) = watched(watch, 2)

    async def verify() -> None:
        assert await verifications(watch, watch.event_of(first)) == 0  # or it would wait for this one for ever

    asyncio.run(asyncio.wait_for(watch.settle(watch.event_of(second), verify), 10))


def test_a_port_that_is_used_again_is_a_new_connection() -> None:
    watch = ProcessWatch()
    (first,) = watched(watch, 1)
    assert asyncio.run(verifications(watch, watch.event_of(first))) == 1
    (again,) = watched(watch, 1)
    assert asyncio.run(verifications(watch, watch.event_of(again))) == 1


def test_after_the_end_nothing_is_asked_any_more() -> None:
    watch = ProcessWatch()
    (first,) = watched(watch, 1)

    async def verify() -> None:
        raise RunEndedError("another one")

    async def settle_all() -> list[Any]:
        return await asyncio.gather(
            *(watch.settle(watch.event_of(first), verify) for _ in range(3)), return_exceptions=True
        )

    assert len(set(map(id, asyncio.run(settle_all())))) == 1
    with pytest.raises(RunEndedError):
        asyncio.run(verifications(watch, 0))


def fingerprint(*steps: dict[str, float], software: str = "vllm") -> Fingerprint:
    return Fingerprint(steps=steps, software=software)


SURE = {"a": -0.1, "b": -3.0, "c": -4.0, "d": -5.0, "e": -6.0}


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (fingerprint(SURE, SURE), False),
        (fingerprint({**SURE, "b": -3.3}, SURE), False),
        (fingerprint({**SURE, "b": -3.6}, SURE), True),
        (fingerprint(SURE, {**SURE, "b": -3.6}), True),
        (fingerprint({**SURE, "b": float("nan")}, SURE), True),
        (fingerprint({"a": -0.1, "b": -3.0, "c": -4.0, "x": -5.0, "y": -6.0}, SURE), False),
        (fingerprint({"a": -0.1, "b": -3.0, "x": -4.0, "y": -5.0, "z": -6.0}, SURE), True),
        (fingerprint(), False),
        (fingerprint(SURE, SURE, software="other"), True),
    ],
)
def test_when_fingerprints_differ(other: Fingerprint, differs: bool) -> None:
    assert (fingerprint(SURE, SURE).difference(other) is not None) is differs


def test_after_a_tie_the_words_are_not_compared() -> None:
    tied, turned = {"a": -0.7, "b": -0.8, "c": -5.0}, {"a": -0.8, "b": -0.7, "c": -5.0}
    assert fingerprint(tied, SURE).difference(fingerprint(turned, {"z": -0.1})) is None


def test_a_folder_belongs_to_one_model(tmp_path: Path) -> None:
    file = tmp_path / "traces" / "server.json"
    mine = fingerprint(SURE)
    mine.claim(file)
    written = file.read_bytes()
    fingerprint({**SURE, "b": -3.1}, software="newer").claim(file)
    assert file.read_bytes() == written
    with pytest.raises(UserError, match="holds answers of another model of the same name"):
        fingerprint({**SURE, "b": -9.0}).claim(file)
    assert [path.name for path in file.parent.iterdir()] == ["server.json"]
    file.write_text("{")
    with pytest.raises(UserError, match=r"server\.json is damaged"):
        mine.claim(file)
