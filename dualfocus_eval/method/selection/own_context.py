"""``own_context``: each candidate's perplexity in its own pathway, as the paper writes it (Eq. 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.method.selection.base import Candidates, Need

__all__ = ["OWN_CONTEXT"]


@dataclass(frozen=True)
class _OwnContext:
    name: str = "own_context"
    label: str = "each answer in its own pathway"
    needs: frozenset[Need] = frozenset()

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        return candidates.macro.nll, candidates.micro.nll


OWN_CONTEXT = _OwnContext()
