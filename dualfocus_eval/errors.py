"""Errors that a user can mend. The command line prints their message alone, without a traceback."""

from __future__ import annotations

__all__ = ["CheckpointError", "UserError"]


class UserError(Exception):
    """A mistake in what the user asked for; the message says what is wrong, where, and what to do."""


class CheckpointError(UserError):
    """A checkpoint or adapter that cannot be used: missing or damaged files, weights that do not fit, pickles."""
