"""How a request makes a server begin with the answer: its block of thinking closed, or a part of it written already.

Chat templates differ in what they put before an answer, and a server renders them itself. So ways are tried, and one
counts where the server returns the very prompt that an engine in process would use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualfocus_eval.engines.server.messages import trial
from dualfocus_eval.engines.server.probing import sample_conversation
from dualfocus_eval.engines.server.prompt_tokens import PromptTokens
from dualfocus_eval.engines.server.replies import BadReplyError
from dualfocus_eval.engines.server.server import RequestFailedError, Server

__all__ = ["Beginning", "Beginnings", "find_beginnings"]

_CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}
_NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
"""What the templates of Qwen3.5, GLM and Gemma 4 know."""


@dataclass(frozen=True)
class Beginning:
    """One way: parameters of the request, and what of the assistant's turn is sent before the answer's own text."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    block: str | None = None
    """None: there is no turn of the assistant, unless the answer has begun."""

    def request(self, begun: str) -> tuple[dict[str, Any], str | None]:
        """Further parameters, and the assistant's turn that is to be continued; None where it is yet to begin."""
        if not begun and self.block is None:
            return dict(self.parameters), None
        return {**self.parameters, **_CONTINUED}, (self.block or "") + begun


@dataclass(frozen=True)
class Beginnings:
    """The ways that lead to an answer at once; None where there is none."""

    empty: Beginning | None = Beginning()
    """Before its first token."""
    begun: Beginning | None = Beginning()
    """After some."""

    @property
    def complete(self) -> bool:
        return self.empty is not None and self.begun is not None


async def find_beginnings(server: Server, model: str, tokens: PromptTokens) -> Beginnings:
    """Try ``server``, whose model thinks before it answers. Raises ``RequestFailedError`` where it does not answer."""
    ids = tokens.template.encode_later("A picture")
    return Beginnings(await _find(server, model, tokens, ()), await _find(server, model, tokens, ids))


async def _find(server: Server, model: str, tokens: PromptTokens, begun: Sequence[int]) -> Beginning | None:
    conversation = sample_conversation()
    wanted = tokens.segments(conversation, answering=True)
    text = tokens.template.begun_text(begun) if begun else ""
    for way in _ways(tokens):
        parameters, turn = way.request(text)
        body = await trial(model, conversation, {"return_token_ids": True, **parameters}, begun=turn)
        try:
            reply = await server.reply(body, logprobs=False, token_ids=True)
        except BadReplyError:
            continue
        except RequestFailedError as failure:
            if failure.passing:
                raise
            continue
        if PromptTokens.agree(wanted, reply.prompt_token_ids or (), begun):
            return way
    return None


def _ways(tokens: PromptTokens) -> Iterator[Beginning]:
    """From the plainest on; the block is as the checkpoint's own template closes it."""
    yield Beginning()
    yield Beginning(_NO_THINKING)
    yield Beginning(block="")
    thinking = tokens.template.thinking
    prompt = "".join(text for text, _ in tokens.template.pieces(sample_conversation(), answering=True))
    if thinking and (block := thinking.block_at_end(prompt)):
        yield Beginning(block=block)
        yield Beginning(block=block.replace(thinking.markers.opening, "", 1).lstrip())
