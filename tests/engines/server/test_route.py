"""The way to a server: addresses, keys, proxies and certificates that cannot be used, or are in the way."""

from __future__ import annotations

import pytest
from aiohttp import web

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.engines.server.probing import served_model
from dualfocus_eval.engines.server.route import proxy_note
from tests.server_double import serving

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def refused(address: str, **arguments: float) -> str:
    """The line that tells the user."""
    with pytest.raises(UserError) as caught:
        served_model(ServerConfig(base_url=address, **arguments))  # type: ignore[arg-type]
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    "address",
    ["localhost:8000", "http://", "http://host:99999", "http://host:0", "http://host:x", "http://a b:80"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address; write it as http://localhost:8000"):
        ServerConfig(base_url=address)


@pytest.mark.parametrize(
    ("variables", "address", "note"),
    [
        ({}, "http://gpu7:8000/v1", ""),
        ({"http_proxy": "http://corp:3128"}, "https://gpu7:8000/v1", ""),
        ({"http_proxy": "http://corp:3128", "no_proxy": "localhost,gpu7"}, "http://gpu7:8000/v1", ""),
        (
            {"HTTP_PROXY": "http://corp:3128"},
            "http://gpu7:8000/v1",
            " (through the proxy in http_proxy; name gpu7 in no_proxy to go without)",
        ),
        (
            {"ALL_PROXY": "http://corp:3128"},
            "https://gpu7/v1",
            " (through the proxy in all_proxy; name gpu7 in no_proxy to go without)",
        ),
    ],
)
def test_a_proxy_in_the_way_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str, note: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_note(address) == note


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    line = refused("http://gpu7:8000", timeout=0.5)
    assert line.startswith("http://gpu7:8000/v1 (through the proxy in http_proxy; name gpu7 in no_proxy to go without)")


@pytest.mark.parametrize(
    ("name", "value"), [("all_proxy", "gopher://user:secret@localhost:1"), ("SSL_CERT_FILE", "missing.pem")]
)
def test_an_environment_that_allows_no_connection(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    line = refused("http://localhost:8000")
    assert line.startswith("no connection can be made with the environment's proxies and certificates: ")
    assert "correct or unset http_proxy" in line
    assert "secret" not in line


def test_a_server_without_tls_is_not_waited_for() -> None:
    with serving(web.Application()) as address:
        line = refused(address.replace("http:", "https:"))
    assert "no secure connection: " in line
    assert "is it http:// and not https://?" in line
