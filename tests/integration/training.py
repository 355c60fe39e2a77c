"""``dualfocus train`` as processes that are started, killed, and looked at afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from tests.integration.conftest import BIN

__all__ = ["TORCHRUN", "Training", "same_weights"]

TORCHRUN = (str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m")
"""What `accelerate launch` runs for several GPUs; without FSDP that command itself wants MPI on CPUs."""


class Training:
    """Starts training runs in ``folder`` and reads what they leave."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def start(self, recipe: str, out: str, *launcher: str) -> subprocess.Popen[str]:
        command = [*(launcher or (str(BIN / "python"), "-m")), "dualfocus_eval", "train", f"{recipe}.yaml"]
        return subprocess.Popen(
            [*command, "--data", "data", "--out", out],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, recipe: str, out: str, *launcher: str) -> str:
        process = self.start(recipe, out, *launcher)
        output, _ = process.communicate(timeout=1800)
        assert process.returncode == 0, output
        return output

    def kill_when(self, recipe: str, out: str, moment: Callable[[], bool], *launcher: str) -> None:
        """The moment is looked at while the processes stand still, so that it is that moment in which they die."""
        process = self.start(recipe, out, *launcher)
        try:
            while process.poll() is None:
                if moment():
                    _send(process, signal.SIGSTOP)
                    if moment():
                        break
                    _send(process, signal.SIGCONT)
                time.sleep(0.0005)
        finally:
            if process.poll() is None:
                _send(process, signal.SIGKILL)
            output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output

    def record(self, out: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / out / "1-tune" / "stage.json").read_text())
        return record

    def weights(self, out: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / out / "1-tune" / "model.safetensors")

    def checkpoints(self, out: str) -> dict[str, bool]:
        """Names, and whether they are complete."""
        paths = (self.folder / out / "1-tune" / "trainer").glob("checkpoint-*")
        return {path.name: (path / "complete").exists() for path in paths}


def same_weights(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _send(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """To all that ``process`` has started as well, which a launcher puts into sessions of their own."""
    launcher = psutil.Process(process.pid)
    for each in (*launcher.children(recursive=True), launcher):
        with suppress(psutil.NoSuchProcess):
            each.send_signal(number)
