"""Standard output and error that never stop a command: closed, read no further, full, or too narrow for a character."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

__all__ = ["lasting_output"]


class Output(io.FileIO):
    """An open file descriptor. What cannot be written to it is dropped, and ``fault`` says why."""

    fault: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or pretend to once a write has failed."""
        if self.fault is None:
            try:
                return super().write(data)
            except OSError as error:
                self.fault = error
        return memoryview(data).nbytes

    @property
    def lost(self) -> bool:
        """Whether output was lost that somebody waits for; a reader who has closed the pipe does not."""
        return self.fault is not None and self.fault.errno != errno.EPIPE


@contextmanager
def lasting_output(name: str) -> Iterator[Output | None]:
    """Run the body with standard streams that raise nothing, and say at its end what happened to standard output.

    Streams that somebody else has put in place, such as a test's capture, are left alone; None then. ``name`` begins
    the message.
    """
    stdout, stderr = sys.stdout, sys.stderr
    output = None
    if stdout is sys.__stdout__:
        output, sys.stdout = _lasting(stdout, 1)
    if stderr is sys.__stderr__:
        _, sys.stderr = _lasting(stderr, 2)
    try:
        yield output
    finally:
        _flush(sys.stdout)
        reason = "standard output is closed" if stdout is None else _reason(output)
        if reason:
            print(f"{name}: {reason}; output was lost", file=sys.stderr)
        _flush(sys.stderr)
        sys.stdout, sys.stderr = stdout, stderr


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        stream.flush()


def _lasting(stream: TextIO | None, descriptor: int) -> tuple[Output, TextIO]:
    if stream is None:  # closed by whoever started the command
        _open_nowhere(descriptor)
    else:
        stream.flush()
    output = Output(descriptor, "wb", closefd=False)
    buffered = io.BufferedWriter(output)
    text = io.TextIOWrapper(
        buffered,
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",
        # python -u and PYTHONUNBUFFERED: what is printed shall be seen at once
        line_buffering=stream is None or bool(stream.line_buffering or getattr(stream, "write_through", False)),
    )
    return output, text


def _open_nowhere(descriptor: int) -> None:
    """Occupy a closed descriptor, so that no file that is opened later receives what is printed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere == descriptor:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _reason(output: Output | None) -> str:
    if output is None or output.fault is None:
        return ""
    if output.lost:
        return f"standard output cannot be written ({output.fault.strerror})"
    return "the reader of standard output has closed it"
