"""Whether a server still runs the model of the run's beginning: the same words, as likely as then."""

from __future__ import annotations

from typing import Any

from dualfocus_eval.engines.base import RunEndedError
from dualfocus_eval.engines.server.messages import ImageUrls, messages_of
from dualfocus_eval.engines.server.probing import sample_conversation
from dualfocus_eval.engines.server.replies import Reply, read_reply
from dualfocus_eval.engines.server.server import Server

__all__ = ["Fingerprint"]

_TOKENS = 4
_LIKELIEST = 5
_TOLERANCE = 0.5
"""In nats: how far the log-probabilities of one model may be apart in half precision and other batches."""


class Fingerprint:
    """The likeliest tokens of the first steps of an answer, with their log-probabilities."""

    def __init__(self, steps: tuple[dict[str, float], ...], software: str | None) -> None:
        self.steps, self.software = steps, software

    @classmethod
    async def of(cls, server: Server, model: str, *, logprobs: bool) -> Fingerprint:
        """Asked of ``server``. Raises ``RequestFailedError`` and ``BadReplyError``."""
        conversation = sample_conversation()
        body: dict[str, Any] = {
            "model": model,
            "messages": messages_of(conversation, await ImageUrls().of(conversation), named=False),
            "max_tokens": _TOKENS,
            "temperature": 0,
        }
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": _LIKELIEST}
        reply = read_reply(await server.complete(body), logprobs=logprobs, token_ids=False)
        return cls(_steps(reply), reply.system_fingerprint)

    def refuse_other(self, other: Fingerprint, address: str) -> None:
        """Raise ``RunEndedError`` where ``other``, asked of the server at ``address``, is of another model."""
        if other.software != self.software:
            raise RunEndedError(
                f"{address}: the server has become another one in mid-run (system_fingerprint {other.software} after "
                f"{self.software}); answers so far are stored: start the run again, to a new --output_path"
            )
        for mine, theirs in zip(self.steps, other.steps, strict=False):
            common = mine.keys() & theirs.keys()
            apart = max((abs(mine[token] - theirs[token]) for token in common), default=_TOLERANCE + 1)
            if len(common) * 2 <= len(mine) or apart > _TOLERANCE:
                raise RunEndedError(
                    f"{address}: the server gives other probabilities than at the beginning of the run, so it runs "
                    "another checkpoint; answers so far are stored: start the run again, to a new --output_path"
                )
            if max(mine, key=mine.__getitem__) != max(theirs, key=theirs.__getitem__):
                return  # what follows answers something else


def _steps(reply: Reply) -> tuple[dict[str, float], ...]:
    return tuple(
        {top.token: top.logprob for top in token.top_logprobs if top.logprob is not None}
        for token in reply.choice.tokens
    )
