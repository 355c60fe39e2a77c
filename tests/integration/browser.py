"""Pages as a reader opens them: in a real headless Chromium, under watch.

A test asks for the fixture `open_page` and calls it with a file or an address; it gets a `Tab`, whose ``page`` is
playwright's. When the test ends, each tab must have been quiet: no errors, and no request that leaves the machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from measurements.chromium import MISSING, is_installed, launched

__all__ = ["OpenPage", "Tab", "browser", "open_page", "overflow", "serious_issues"]

_NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
_LOCAL = ("file:", "data:", "blob:", "about:")
OpenPage = Callable[..., "Tab"]
expect.set_options(timeout=30_000)  # milliseconds that a page may take: other tests run on the same cores


@dataclass
class Tab:
    """An open page, and what it did."""

    page: Page
    origin: str = ""
    """The address, as ``http://127.0.0.1:8000``, that it may ask beside files; empty for none."""
    errors: list[str] = field(default_factory=list)
    """Errors on the console, violations of the page's Content-Security-Policy among them, and uncaught exceptions."""
    requests: list[str] = field(default_factory=list)
    """The addresses of all its requests."""

    @property
    def outside(self) -> list[str]:
        """Requests for anything but files and its origin."""
        allowed = (*_LOCAL, f"{self.origin}/") if self.origin else _LOCAL
        return [address for address in self.requests if not address.startswith(allowed)]

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def on_request(self, request: Request) -> None:
        self.requests.append(request.url)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless. It lives as long as a module's tests, since playwright keeps an event loop running,
    beside which other tests could not start theirs."""
    if not is_installed():
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        found = launched(playwright, [_NO_NETWORK])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """A function that opens a file, or an address whose ``origin`` is given, in a context of its own.

    ``width`` and ``height`` are in CSS pixels; other arguments are those of playwright's ``new_context``, such as
    ``color_scheme="dark"`` or ``java_script_enabled=False``.
    """
    tabs: list[Tab] = []

    def open_page(place: Path | str, *, origin: str = "", width: int = 1400, height: int = 900, **settings: Any) -> Tab:
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        tab = Tab(context.new_page(), origin)
        tabs.append(tab)
        context.on("request", tab.on_request)
        tab.page.on("console", tab.on_console)
        tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.page.goto(place.resolve().as_uri() if isinstance(place, Path) else place)
        return tab

    yield open_page
    for tab in tabs:
        tab.page.context.close()
    assert [error for tab in tabs for error in tab.errors] == []
    assert [address for tab in tabs for address in tab.outside] == []


def serious_issues(tab: Tab) -> list[str]:
    """What axe-core finds on the page that is serious or critical: rule, what it asks for, and the elements."""
    found = Axe().run(tab.page).response["violations"]
    return [
        f"{issue['id']}: {issue['help']}: {[node['target'] for node in issue['nodes']][:5]}"
        for issue in found
        if issue["impact"] in ("serious", "critical")
    ]


def overflow(tab: Tab) -> int:
    """By how many CSS pixels the page is wider than its window; 0 where it does not scroll sideways."""
    width: int = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width
