"""Ctrl-C: what is going on with servers ends at once, and the engine can be used again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dualfocus_eval.common.threads import results_of
from tests.engines.asking import ask, completed, picture
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.server_double import ServerDouble, serving

_THREADS = 4
REQUESTS = [ask(picture(number, (80, 60)), "What color is the box?", most=4) for number in range(3 * _THREADS)]


class Hanging(ServerDouble):
    """Once ``hangs``, it answers nothing, and Ctrl-C is pressed when every thread waits for it."""

    hangs = False
    waiting = 0

    async def _complete(self, request: web.Request) -> web.Response:
        if self.hangs:
            self.waiting += 1
            if self.waiting == _THREADS:
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(600)
        return await super()._complete(request)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("concurrency", [_THREADS, 1])
def test_questions_in_flight_end(connected: Connect, concurrency: int) -> None:
    double = Hanging(Path(EMBEDDED))
    with serving(double.app) as address:
        engine = connected(address, concurrency=concurrency, timeout=600.0)

        def answered() -> list[Any]:
            calls = engine.parallel_calls
            return list(results_of(lambda one: engine.call_engine().generate([one]), REQUESTS, calls, engine.interrupt))

        double.hangs, double.waiting = True, _THREADS - concurrency
        with pytest.raises(KeyboardInterrupt):
            answered()
        assert double.waiting == _THREADS
        assert not engine._shared.calls
        double.hangs = False
        for (one,) in answered():
            completed(one)


@pytest.mark.usefixtures("ctrl_c")
def test_a_server_that_is_loading_is_not_waited_for_any_longer(connected: Connect) -> None:
    class Press(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    logger, handler = logging.getLogger("dualfocus_eval.engines.server.probing"), Press()
    logger.addHandler(handler)
    try:
        with serving(ServerDouble(Path(EMBEDDED), loading=True).app) as address, pytest.raises(KeyboardInterrupt):
            connected(address, timeout=600.0)
    finally:
        logger.removeHandler(handler)
