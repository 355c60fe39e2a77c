"""What some engines can do beyond `engines.base.Engine`: tell where in an image a model looks. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dualfocus_eval.engines.base import Conversation, Engine, Failure
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.families.grids import ImageGrid

__all__ = ["AttendingEngine", "AttentionRequest", "ImageAttention", "readable_families"]


def readable_families() -> str:
    """The model types whose attention can be read: where it is known how an image's tokens lie in it."""
    return ", ".join(family.model_type for family in FAMILIES if family.grid is not None)


@dataclass(frozen=True)
class AttentionRequest:
    """From where the answer to ``conversation``, which has one picture, begins: the attention to that picture."""

    conversation: Conversation

    @property
    def answers_at_once(self) -> bool:
        """True: it is the answer that is looked at; a block of thinking, which some models begin with, is empty."""
        return True


@dataclass(frozen=True, eq=False)
class ImageAttention:
    """How much the prompt's last token attends to each cell of the image."""

    weights: Any
    """NumPy array (rows, columns) of float32: means over the heads of one layer. All weights of a prompt, those of its
    other tokens included, sum to 1."""
    grid: ImageGrid


@runtime_checkable
class AttendingEngine(Engine, Protocol):
    """An engine that can read a model's attention in one decoder layer.

    Layers are counted from 0. ``None`` is the one at 14/32 of the depth, which Zhang et al. (ICLR 2025) read in
    LLaVA-1.5, or the first after it that attends at all.
    """

    def attention_problem(self, layer: int | None) -> str | None:
        """Why the attention in ``layer`` cannot be read, with what to do; None where it can."""
        ...

    def attend(self, requests: Sequence[AttentionRequest], layer: int | None = None) -> list[ImageAttention | Failure]:
        """The attention of every prompt to its picture; results in the order of the requests."""
        ...
