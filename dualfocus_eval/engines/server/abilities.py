"""What a server was found to do."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.engines.server.sglang import TOKEN_IDS

__all__ = ["Abilities", "id_parameters"]


def id_parameters(sglang: bool) -> dict[str, bool]:
    """What asks SGLang, or else vLLM, for token ids in a chat completion."""
    return TOKEN_IDS if sglang else {"return_token_ids": True, "return_tokens_as_token_ids": True}


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
    native_scores: bool = False
    """It is an SGLang server: `engines.server.sglang` scores texts, without giving up the prefix cache."""

    @property
    def scores(self) -> bool:
        """Whether given texts can be scored."""
        return self.forced_tokens or self.native_scores

    @property
    def id_parameters(self) -> dict[str, bool]:
        """What asks for token ids in a chat completion; empty where it does not return them."""
        return id_parameters(self.native_scores) if self.token_ids else {}

    def __str__(self) -> str:
        return ", ".join(f"{name}={'yes' if value else 'no'}" for name, value in vars(self).items())
