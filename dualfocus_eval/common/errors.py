"""Errors that a user can mend. The command line prints their message alone, without a traceback."""

from __future__ import annotations

__all__ = ["CheckpointError", "UserError", "first_line"]


class UserError(Exception):
    """A mistake in what the user asked for; the message says what is wrong, where, and what to do."""


class CheckpointError(UserError):
    """A checkpoint or adapter that cannot be used: missing or damaged files, weights that do not fit, pickles."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none; for messages of one line."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
