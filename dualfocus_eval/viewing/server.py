"""The server of `dualfocus view`: this machine only, reading only, and only the files of the page and the report."""

from __future__ import annotations

import mimetypes
import posixpath
import sys
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import open_regular
from dualfocus_eval.viewing.watching import Watch

__all__ = ["HOST", "open_server"]

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost")
_PAGE = {
    "/live.html": ("dualfocus_eval.viewing", "live.html", "text/html"),
    "/live.js": ("dualfocus_eval.viewing", "live.js", "text/javascript"),
    "/live.css": ("dualfocus_eval.viewing", "live.css", "text/css"),
    "/base.css": ("dualfocus_eval.report", "base.css", "text/css"),
}
_REPORT = "/report/"
_SECONDS_OF_SILENCE = 30
_STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
)
_ALONE = "form-action 'none'; frame-ancestors 'none'"
"""The report's pages bring a policy of their own, to which this is added."""


def open_server(watch: Watch, port: int) -> ThreadingHTTPServer:
    """A server of ``watch`` on this machine's own address; port 0 is any that is free.

    Raises ``UserError`` where the port is taken or not allowed.
    """
    try:
        return _Server((HOST, port), partial(_Handler, watch))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--port {port} cannot be used: {why}; choose another, or 0 for any that is free") from error


class _Server(ThreadingHTTPServer):
    """A thread for each connection, none of which keeps the command from ending."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dualfocus", ""
    timeout = _SECONDS_OF_SILENCE

    def __init__(self, watch: Watch, *arguments: Any) -> None:
        self._watch = watch
        super().__init__(*arguments)

    def parse_request(self) -> bool:
        """Refuse, besides what is no HTTP, methods that change something and requests for another host.

        A page from elsewhere can have its own name lead to this address; the browser then says that name.
        """
        if not super().parse_request():
            return False
        if self.command not in ("GET", "HEAD"):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
            return False
        port = self.connection.getsockname()[1]
        if self.headers.get_all("Host") not in [[f"{name}:{port}"] for name in _NAMES]:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return False
        return True

    def do_GET(self) -> None:
        """Answer from the page, its data or the report."""
        path, report = urlsplit(self.path).path, self._watch.report  # which may go at any time: a new run begins
        if path == "/":
            self._redirect(f"{_REPORT}index.html" if report else "/live.html")
        elif path == "/favicon.ico":  # browsers ask for it on their own
            self._send(b"", "image/x-icon", _STRICT + _ALONE)
        elif path == "/state.json":
            self._send(self._watch.state, "application/json", _STRICT + _ALONE)
        elif path in _PAGE:
            package, name, kind = _PAGE[path]
            self._send(files(package).joinpath(name).read_bytes(), kind, _STRICT + _ALONE)
        elif path.startswith(_REPORT) and report:
            self._send_file(report, path.removeprefix(_REPORT))
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        """The same without content."""
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""

    def _send_file(self, root: Path, asked: str) -> None:
        path = _inside(root, unquote(asked))
        try:
            if path is None:
                raise FileNotFoundError
            with open_regular(path) as file:
                content = file.read()
        except (OSError, ValueError):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        kind = mimetypes.types_map.get(path.suffix.lower(), "application/octet-stream")
        self._send(content, kind, _ALONE if kind == "text/html" else "default-src 'none'; style-src 'unsafe-inline'")

    def _send(self, content: bytes, kind: str, policy: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        text = kind.startswith("text/") or kind in ("application/json", "application/javascript")
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if text else kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", policy)
        self._send_rest(content)

    def _send_rest(self, content: bytes) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _redirect(self, target: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self._send_rest(b"")

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self.send_response(status)
        content = f"{status} {status.phrase}\n".encode()
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self._send_rest(content)


def _inside(root: Path, asked: str) -> Path | None:
    """The file of this name below ``root``; None for names that lead elsewhere, also through links."""
    if "\0" in asked or "\\" in asked or asked.startswith("/") or ".." in asked.split("/"):
        return None
    path = (root / posixpath.normpath(asked)).resolve()
    return path if path.is_relative_to(root.resolve()) else None
