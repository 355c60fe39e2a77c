"""Servers that cannot be used: said at the start, in one line with the address and what to do."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from aiohttp import web

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.probing import served_model
from tests.engines.server.conftest import EMBEDDED, Connect
from tests.server_double import NAME, ServerDouble, serving

KEY = "sk-0123456789abcdef"


def refused(connected: Connect, address: str, **arguments: object) -> str:
    """The line that tells the user."""
    with pytest.raises(UserError) as caught:
        connected(address, **arguments)
    (line,) = str(caught.value).splitlines()
    assert address in line
    return line


def free_address() -> str:
    """Where nothing listens any more."""
    with serving(web.Application()) as address:
        return address


def test_nothing_listens(connected: Connect) -> None:
    line = refused(connected, free_address(), timeout=0.5)
    assert "no answer from the server" in line
    assert "is base_url right, and the server running?" in line


def test_an_unknown_host_is_not_waited_for(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.sleep", None)
    line = refused(connected, "http://nowhere.invalid:8000", timeout=600.0)
    assert "there is no such host" in line


def test_another_service(connected: Connect) -> None:
    with serving(web.Application()) as address:
        assert "is base_url right" in refused(connected, address)


def test_a_proxy_that_answers_with_a_web_page(connected: Connect) -> None:
    app = web.Application()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=f"<html>Log in, {request.headers['Authorization']}</html>", content_type="text/html")

    app.router.add_route("*", "/{path:.*}", page)
    with serving(app) as address:
        line = refused(connected, address)
    assert "it does not answer as an OpenAI-compatible server; is base_url right?" in line


def test_a_proxy_that_refuses(connected: Connect) -> None:
    app = web.Application()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>Forbidden</html>", content_type="text/html", status=403)

    app.router.add_route("*", "/{path:.*}", page)
    with serving(app) as address:
        line = refused(connected, address)
    assert "the server refuses the key (403) with a web page: is there a proxy? Else see api_key" in line


def test_another_model(served: str, connected: Connect) -> None:
    line = refused(connected, served, model="llava")
    assert f"it does not serve 'llava' but {NAME}; set model=" in line


def test_what_follows_the_path_of_an_address_is_not_dropped_silently() -> None:
    with pytest.raises(ValueError, match="leave out what begins with"):
        ServerConfig("http://localhost:8000/v1?version=1")


def test_a_key_that_is_refused_is_not_shown(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(ServerDouble(Path(EMBEDDED), key="another").app) as address:
        line = refused(connected, address, api_key="MY_KEY")
        assert "the server refuses the key (401); see api_key" in line
        assert "base_url" not in line
        assert KEY not in line
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        assert "see api_key" in refused(connected, address)


def test_a_key_in_a_servers_own_words_is_not_shown(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    app = web.Application()

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": f"no: {request.headers['Authorization']}"}}, status=400)

    app.router.add_route("*", "/{path:.*}", refuse)
    with serving(app) as address:
        line = refused(connected, address, api_key="MY_KEY")
    assert "no: Bearer ***" in line


def test_no_part_of_a_key_is_shown_where_a_servers_words_are_cut(
    connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    app = web.Application()

    async def refuse(request: web.Request) -> web.Response:
        words = "x" * (200 - len("Bearer ") - len(KEY) // 2) + request.headers["Authorization"]
        return web.json_response({"error": {"message": words}}, status=400)

    app.router.add_route("*", "/{path:.*}", refuse)
    with serving(app) as address:
        line = refused(connected, address, api_key="MY_KEY")
    assert KEY[:5] not in line


@pytest.mark.parametrize("key", [f"{KEY}\nsecond", f"{KEY}\u20ac", f"{KEY}\x7f"])
def test_a_key_that_cannot_be_sent_is_not_shown(
    served: str, connected: Connect, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match="the key in MY_KEY holds characters that cannot be sent") as caught:
        connected(served, api_key="MY_KEY")
    assert KEY not in str(caught.value)


def test_the_end_of_a_line_is_no_part_of_a_key(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    with serving(ServerDouble(Path(EMBEDDED), key=KEY).app) as address:
        connected(address, api_key="MY_KEY")


def test_a_key_in_the_place_of_its_variables_name_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from dualfocus_eval.harness.arguments import check

    with pytest.raises(UserError) as caught:
        check({"engine": "server", "base_url": "http://localhost:1", "api_key": KEY})
    assert KEY not in str(caught.value)
    assert "api_key" in str(caught.value)


def test_a_server_that_is_loading_is_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First it does not listen, as vLLM, then it answers 503, as proxies before it do."""
    monkeypatch.setattr("dualfocus_eval.engines.server.probing._PAUSE", 0.05)
    address = free_address()
    double = ServerDouble(Path(EMBEDDED), loading=True)
    waiting = threading.Event()

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            waiting.set()

    handler = Listen()
    logging.getLogger("dualfocus_eval.engines.server.probing").addHandler(handler)

    def load() -> None:
        waiting.wait(20)
        with serving(double.app, int(address.rpartition(":")[2])):
            while not double.refused:
                ended.wait(0.01)
            double.loading = False
            ended.wait(20)

    ended = threading.Event()
    thread = threading.Thread(target=load)
    thread.start()
    try:
        assert served_model(ServerConfig(base_url=address, timeout=20.0)).model == NAME
    finally:
        ended.set()
        thread.join()
        logging.getLogger("dualfocus_eval.engines.server.probing").removeHandler(handler)
    (told,) = [record.message for record in caplog.records if "it may be loading" in record.message]
    assert "0 of up to 20 s" in told


def test_servers_of_different_checkpoints(served: str, connected: Connect, other_checkpoint: Path) -> None:
    with serving(ServerDouble(other_checkpoint).app) as other, pytest.raises(UserError) as caught:
        connected(f"{served},{other}")
    assert "do not serve the same: the former has other probabilities" in str(caught.value)


def test_servers_of_different_configurations(served: str, connected: Connect) -> None:
    with (
        serving(ServerDouble(Path(EMBEDDED), fingerprint="vllm-0.32.0-01010101").app) as other,
        pytest.raises(UserError) as caught,
    ):
        connected(f"{served},{other}")
    assert "system_fingerprint vllm-0.32.0-01010101 in the place of vllm-0.32.0-5e7f0000" in str(caught.value)


def test_an_engine_is_closed_once_and_at_the_latest_with_the_interpreter(served: str, connected: Connect) -> None:
    engine = connected(served)
    assert engine._closing.atexit
    engine.close()
    assert not engine._closing.alive
    engine.close()
