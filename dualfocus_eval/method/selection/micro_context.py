"""``micro_context``: both candidates as continuations of the micro pathway's context, under the scoring prompt."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.method.selection.base import Candidates, Need

__all__ = ["MICRO_CONTEXT"]


@dataclass(frozen=True)
class _MicroContext:
    name: str = "micro_context"
    label: str = "both answers in the micro pathway's context"
    needs: frozenset[Need] = frozenset({"micro_context_scores"})

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        if candidates.scores is None:
            return None
        return candidates.scores.macro_nll, candidates.scores.micro_nll


MICRO_CONTEXT = _MicroContext()
