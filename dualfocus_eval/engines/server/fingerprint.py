"""Whether a server still runs the model of the run's beginning: the same words, as likely as then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import open_regular, replacing
from dualfocus_eval.engines.server.messages import trial
from dualfocus_eval.engines.server.probing import sample_conversation
from dualfocus_eval.engines.server.replies import Reply
from dualfocus_eval.engines.server.server import Server

__all__ = ["Fingerprint"]

_TOKENS = 16
_LIKELIEST = 5
_TOLERANCE = 0.5
"""In nats: how far the log-probabilities of one model may be apart in half precision and other batches."""


class Fingerprint(BaseModel):
    """What tells a server from one with another model or configuration."""

    model_config = ConfigDict(frozen=True)

    steps: tuple[dict[str, float], ...]
    """The likeliest tokens of the first steps of an answer, with their log-probabilities in nats; empty where the
    server tells none."""
    software: str | None
    """`Reply.configuration`."""

    @classmethod
    async def of(cls, server: Server, model: str, *, logprobs: bool) -> Fingerprint:
        """Asked of ``server``. Raises ``RequestFailedError`` and ``BadReplyError``."""
        wanted: dict[str, Any] = {"logprobs": True, "top_logprobs": _LIKELIEST} if logprobs else {}
        body = await trial(model, sample_conversation(), {"max_tokens": _TOKENS, **wanted})
        reply = await server.reply(body, logprobs=logprobs, token_ids=False, verified=False)
        return cls(steps=_steps(reply), software=reply.configuration)

    def difference(self, other: Fingerprint) -> str | None:
        """What ``other`` has otherwise than this one; None where both may be of one server."""
        return self.difference_of_software(other.software) or self.difference_of_model(other)

    def difference_of_software(self, other: str | None) -> str | None:
        """Of another ``system_fingerprint``."""
        return f"system_fingerprint {other} in the place of {self.software}" if other != self.software else None

    def difference_of_model(self, other: Fingerprint) -> str | None:
        """Of probabilities alone."""
        for mine, theirs in zip(self.steps, other.steps, strict=False):
            if not mine or not theirs:
                return None  # the server tells of no other tokens than its own
            common = mine.keys() & theirs.keys()
            close = all(abs(mine[token] - theirs[token]) <= _TOLERANCE for token in common)  # never for NaN
            if len(common) * 2 <= len(mine) or not close:
                return "other probabilities, so it runs another checkpoint"
            if max(mine, key=mine.__getitem__) != max(theirs, key=theirs.__getitem__):
                return None  # what follows answers something else
        return None

    def claim(self, file: Path) -> None:
        """Write this fingerprint to ``file``, which tells whose answers lie beside it.

        Raises ``UserError`` where it holds that of another model already, or cannot be read or written.
        """
        try:
            with open_regular(file) as content:
                stored = Fingerprint.model_validate_json(content.read())
        except FileNotFoundError:
            self._write(file)
            return
        except (OSError, ValidationError):
            raise UserError(
                f"{file} is damaged: it tells which model the answers beside it are of; pass a new trace_dir or "
                "--output_path, or delete the file if they are of the model that is served now"
            ) from None
        if difference := stored.difference_of_model(self):
            raise UserError(
                f"{file.parent} holds answers of another model of the same name: the server now gives {difference}; "
                "pass a new trace_dir or --output_path"
            )

    def _write(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as partial:
                partial.write_text(self.model_dump_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"trace folder {file.parent} cannot be used: {error}") from error


def _steps(reply: Reply) -> tuple[dict[str, float], ...]:
    return tuple(
        {top.token: top.logprob for top in token.top_logprobs if top.logprob is not None}
        for token in reply.choice.tokens
    )
