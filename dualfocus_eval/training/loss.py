"""The loss of instruction tuning (Eq. 4): cross-entropies of target tokens, added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from dualfocus_eval.training.encoding import IGNORED

__all__ = ["TokenSums", "token_sums"]


@dataclass(frozen=True)
class TokenSums:
    """Sums over a batch's target tokens, and how many there are; scalars."""

    loss: Tensor
    """With its gradient."""
    tokens: Tensor
    grounding_loss: Tensor
    """Of A1's tokens alone."""
    grounding_tokens: Tensor


def token_sums(model: Any, inputs: Mapping[str, Any]) -> TokenSums:
    """Cross-entropies, in float32, of a batch of `InstructionCollator`.

    The language model's head runs only where some sample of the batch has a target to predict.
    """
    plain = {name: value for name, value in inputs.items() if name not in ("labels", "grounding")}
    labels, grounding = inputs["labels"][:, 1:], inputs["grounding"][:, 1:]  # (batch, length - 1): of the next token
    places = (labels != IGNORED).any(0).nonzero()[:, 0]  # (kept,)
    if not len(places):
        places = places.new_zeros(1)
    logits = model(**plain, use_cache=False, logits_to_keep=places).logits  # (batch, kept, vocabulary)
    labels, grounding = labels[:, places], grounding[:, places]
    wanted = labels != IGNORED
    losses = functional.cross_entropy(logits[wanted].float(), labels[wanted], reduction="none")  # (targets,)
    boxes = grounding[wanted]
    return TokenSums(losses.sum(), wanted.sum(), losses.detach()[boxes].sum(), boxes.sum())
