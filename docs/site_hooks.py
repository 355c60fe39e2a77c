"""The site's pages that stand outside ``docs/`` in the repository: the README is its home page.

Links in these files are relative to the repository's root; in the site they are relative to ``docs/``.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Page of the site by file of the repository."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=in_site((root / source).read_text(encoding="utf-8"))))
    return files


def in_site(text: str) -> str:
    """``text`` with links that lead to the same places from the site."""
    text = re.sub(r"\]\(docs/", "](", text)
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text
