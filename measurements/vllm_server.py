"""A vLLM server on this machine's CPU, started for a measurement or a test and stopped with it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT, resource_folder

__all__ = ["Running", "serving", "vllm_python"]

START_SECONDS = 400
STOP_SECONDS = 30
_PR_SET_PDEATHSIG = 1
BLOCK_SIZE = 32
"""Tokens of one block of the prefix cache; vLLM's CPU attention takes multiples of 32, and short prompts need short
blocks to reuse any."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    base_url: str
    log: Path
    process: subprocess.Popen[bytes]
    """The leader of the group that all processes of the server belong to."""

    def kill(self) -> None:
        """End all its processes at once, as a machine that fails does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def vllm_python() -> Path:
    """The interpreter of the environment that has vLLM: ``$VLLM_ENV``, or where `make test-server` installs it.

    Raises ``UserError`` where there is none.
    """
    folder = Path(os.environ.get("VLLM_ENV") or Path(__file__).parent.parent / "build" / "vllm").absolute()
    python = folder / "bin" / "python"
    if not python.is_file():
        raise UserError(f"{folder} is no environment with vLLM: run `make test-server`, or name one in VLLM_ENV")
    return python


@contextmanager
def serving(folder: Path, *options: str, checkpoint: Path | None = None, port: int | None = None) -> Iterator[Running]:
    """Serve ``checkpoint``, by default the embedded one, in float32 on ``port`` of this machine.

    ``options`` are vLLM's own. The log is kept in ``folder``. The server ends with the block, and with this process.
    Raises ``UserError`` where it does not start, with the end of its log.
    """
    checkpoint = checkpoint or resource_folder("models") / EMBEDDED_CHECKPOINT
    port = port or _free_port()
    command = [
        vllm_python(), "-m", "vllm.entrypoints.openai.api_server", "--model", checkpoint, "--served-model-name",
        checkpoint.name, "--dtype", "float32", "--block-size", BLOCK_SIZE, "--limit-mm-per-prompt", '{"image": 2}',
        "--host", "127.0.0.1", "--port", port, *options,
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"vllm-{port}.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_the_parent,
        )
    running = Running(f"http://127.0.0.1:{port}", log, process)
    try:
        _wait_for(running)
        yield running
    finally:
        _stop(running)


def _environment() -> dict[str, str]:
    """Without what this interpreter was told: the server has one of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    own = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    return kept | own


def _end_with_the_parent() -> None:
    """Have Linux end the server when this process is killed and ends nothing itself."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


def _wait_for(running: Running) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if running.process.poll() is not None:
            raise UserError(f"vLLM ended with status {running.process.returncode}: {_last_words(running.log)}")
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{running.base_url}/health", timeout=5).close()
            return
        time.sleep(1)
    raise UserError(f"vLLM did not answer within {START_SECONDS} s: {_last_words(running.log)}")


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{' / '.join(lines[-3:])[:600]} ({log})"


def _stop(running: Running) -> None:
    """Ask the server to end, then make it; its other processes end with it, or are ended."""
    with suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        running.process.wait(STOP_SECONDS)
    running.kill()
