"""docs/extending.md shows the files of the example package as they are (tests/integration/test_extension.py)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTENSION = ROOT / "tests" / "extension"
_FILE = re.compile(r'^```\w+ title="(.+?)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def test_the_page_shows_every_file_as_it_is() -> None:
    shown = dict(_FILE.findall((ROOT / "docs" / "extending.md").read_text()))
    suffixes = {".toml", ".py", ".yaml", ".jsonl"}
    files = {path for path in EXTENSION.rglob("*") if path.suffix in suffixes}
    assert shown == {str(path.relative_to(EXTENSION)): text for path in files if (text := path.read_text())}
