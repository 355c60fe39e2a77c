"""Runs the printed commands in a real shell, in front of programs that only write down their arguments."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dualfocus_eval.cli.main import main

__all__ = ["launched", "option", "printed", "write_checkpoint"]

_RECORDER = """#!/bin/sh
exec {python} -c 'import json, os, sys
print(json.dumps([os.environ.get("CUDA_VISIBLE_DEVICES"), *sys.argv[1:]]), flush=True)' {name} "$@"
"""


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What ``dualfocus serve-command`` prints for ``arguments``."""
    assert main(["serve-command", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def launched(script: str, folder: Path) -> list[list[str]]:
    """For every process that ``script`` starts: the GPUs that it may see, the program, and its arguments."""
    import sys

    for name in ("vllm", "python", "dualfocus"):
        program = folder / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(_RECORDER.format(python=sys.executable, name=name))
        program.chmod(0o755)
    environment = {"PATH": f"{folder / 'programs'}:/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/sh", "-e"], input=script, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return sorted(map(json.loads, done.stdout.splitlines()), key=str)


def write_checkpoint(folder: Path, *, gigabytes: int = 1, **settings: Any) -> Path:
    """A folder that says of itself what a checkpoint would, without weights or a processor."""
    folder.mkdir(parents=True)
    text = {"num_attention_heads": 32, "max_position_embeddings": 4096}
    config = {"model_type": "llava", "dtype": "bfloat16", "text_config": text, **settings}
    (folder / "config.json").write_text(json.dumps(config))
    index = {"metadata": {"total_size": gigabytes * 10**9}, "weight_map": {}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def option(process: Sequence[str], flag: str) -> str | None:
    """The value of ``flag`` in a process's arguments; None where it has none."""
    return process[process.index(flag) + 1] if flag in process else None
