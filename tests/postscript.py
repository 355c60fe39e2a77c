"""PostScript, and a Ghostscript that only writes down that it was started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import EpsImagePlugin

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def ghostscript_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is there as soon as anybody, processes started from here included, starts Ghostscript."""
    programs, log = folder / "programs", folder / "ghostscript.log"
    programs.mkdir()
    ghostscript = programs / "gs"
    # Asked to render, it writes a picture of 8 x 8 pixels where it is told to.
    ghostscript.write_text(
        f"""#!/bin/sh
echo "$@" >> {log}
for argument in "$@"; do
    case "$argument" in -sOutputFile=*) printf 'P6 8 8 255\n%0192d' 0 > "${{argument#-sOutputFile=}}" ;; esac
done
"""
    )
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return log
