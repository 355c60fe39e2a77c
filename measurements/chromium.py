"""Debian's Chromium, headless, for what is measured or pictured in a page; the tests open pages with it too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from playwright.sync_api import Browser, Playwright

__all__ = ["MISSING", "is_installed", "launched"]

MISSING = "chromium is not installed: apt-get install chromium"


def is_installed() -> bool:
    """Whether there is a Chromium to launch."""
    return shutil.which("chromium") is not None


def launched(playwright: Playwright, args: Sequence[str] = ()) -> Browser:
    """A running browser; ``args`` are further switches of Chromium. Ends the command where there is none."""
    if not is_installed():
        raise SystemExit(MISSING)
    # Chromium's sandbox refuses to run as root, which containers do.
    sandbox = os.name == "posix" and os.geteuid() != 0
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), chromium_sandbox=sandbox, args=[*args])
