"""What a server was found to do."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Abilities"]


@dataclass(frozen=True)
class Abilities:
    """What a server was found to do."""

    logprobs: bool
    """It returns the log-probabilities of what it generates."""
    token_ids: bool
    """It returns the token ids of prompt and answer."""
    forced_tokens: bool
    """It goes on with an answer that is begun, and generates a token that it is told to: texts can be scored."""
    prompt_logprobs: bool
    """It returns the log-probabilities of a prompt's tokens."""
    image_uuids: bool
    """It knows an image again by the name that it was sent with."""

    def __str__(self) -> str:
        return ", ".join(f"{name}={'yes' if value else 'no'}" for name, value in vars(self).items())
