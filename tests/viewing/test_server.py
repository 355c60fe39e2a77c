from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.viewing.server import open_server
from dualfocus_eval.viewing.watching import Watch
from tests.viewing.runs import TASK, note, put, trace


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    place = tmp_path / "run"
    note(place / "traces", {TASK: range(3)}, model="/models/<script>\u202emodel")
    put(place / "traces", [trace(0)])
    report = tmp_path / "report"
    (report / "tables").mkdir(parents=True)
    (report / "index.html").write_text("<!doctype html><title>r\u00e9port</title>")
    (report / "tables" / "a b.csv").write_text("1,2")
    (report / "figure.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("secret")
    (report / "out.txt").symlink_to(tmp_path / "secret.txt")
    (report / "up").symlink_to(tmp_path)
    (report / "in.html").symlink_to(report / "index.html")
    found = Watch(place, tmp_path / "work")
    found.step()
    return found


@pytest.fixture
def port(watch: Watch) -> Iterator[int]:
    with open_server(watch, 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    found = response, response.read()
    connection.close()
    return found


def test_the_page_and_the_state(watch: Watch, port: int) -> None:
    response, _ = ask(port, "/")
    assert (response.status, response.getheader("Location")) == (302, "/live.html")
    for path, kind in (("/live.html", "text/html"), ("/live.js", "text/javascript"), ("/base.css", "text/css")):
        response, content = ask(port, path)
        assert response.status == 200
        assert response.getheader("Content-Type") == f"{kind}; charset=utf-8"
        assert "unsafe-inline" not in response.getheader("Content-Security-Policy", "")
        assert content
    state = json.loads(ask(port, "/state.json")[1])
    assert (state["phase"], state["run"]["answered"], state["run"]["asked"]) == ("answering", 1, 3)
    assert state["run"]["model"] == "<script>\\u202emodel"


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1", "localhost.example.com:{port}", "[::1]:{port}", ""])
def test_other_names_of_the_host_are_refused(port: int, host: str) -> None:
    response, content = ask(port, "/state.json", Host=host.format(port=port))
    assert (response.status, content) == (421, b"421 Misdirected Request\n")


def test_no_host_and_two_hosts_are_refused(port: int) -> None:
    for hosts in (b"", f"Host: localhost:{port}\r\nHost: example.com\r\n".encode()):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"GET /state.json HTTP/1.1\r\n" + hosts + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 421 ")


def test_localhost_is_this_machine(port: int) -> None:
    assert ask(port, "/state.json", Host=f"localhost:{port}")[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "ANY"])
def test_only_reading(port: int, method: str) -> None:
    response, _ = ask(port, "/state.json", method)
    assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")


def test_head_has_the_headers_alone(port: int) -> None:
    response, content = ask(port, "/live.html", "HEAD")
    assert (response.status, content) == (200, b"")
    assert int(response.getheader("Content-Length", "0")) > 500


def test_a_report_is_served_once_it_is_there(watch: Watch, port: int, tmp_path: Path) -> None:
    assert ask(port, "/report/index.html")[0].status == 404
    watch.report = tmp_path / "report"
    assert ask(port, "/")[0].getheader("Location") == "/report/index.html"
    response, content = ask(port, "/report/index.html")
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "r\u00e9port".encode() in content
    assert ask(port, "/report/tables/a%20b.csv?x=1")[1] == b"1,2"
    assert ask(port, "/report/figure.svg")[0].getheader("Content-Type") == "image/svg+xml"
    assert ask(port, "/report/in.html")[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/report/../secret.txt", "/report/%2e%2e/secret.txt", "/report/tables/../../secret.txt",
        "/report/..%2fsecret.txt", "/report//etc/passwd", "/report/%2Fetc%2Fpasswd", "/report/out.txt",
        "/report/up/secret.txt", "/report/..%5csecret.txt", "/report/a%00.html", "/report/tables", "/report/",
        "/report/none.html", "/secret.txt", "//secret.txt", "/etc/passwd", "/live.py", "/report/" + "a" * 5000,
    ],
)  # fmt: skip
def test_nothing_else_is_served(watch: Watch, port: int, tmp_path: Path, path: str) -> None:
    watch.report = tmp_path / "report"
    response, content = ask(port, path)
    assert response.status == 404
    assert b"secret" not in content


@pytest.mark.parametrize(
    "line", [b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00\r\n\r\n"]
)
def test_what_is_no_request_costs_nothing(port: int, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(line)
        connection.recv(1000)
    assert ask(port, "/state.json")[0].status == 200


def test_a_port_that_is_taken_is_a_users_error(watch: Watch, port: int) -> None:
    with pytest.raises(UserError, match=f"--port {port} cannot be used: Address already in use; choose another, or 0"):
        open_server(watch, port)


def test_only_this_machine_can_connect(watch: Watch) -> None:
    with open_server(watch, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
