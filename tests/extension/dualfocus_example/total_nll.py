"""``selection=total_nll``: the answer that is likelier as a whole. A longer answer is not excused by its length."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_eval.method.selection.base import Candidates, Need


@dataclass(frozen=True)
class _TotalNll:
    name: str = "total_nll"
    label: str = "each answer's total NLL in its own pathway"
    needs: frozenset[Need] = frozenset()

    def costs(self, candidates: Candidates) -> tuple[float, float]:
        return -sum(candidates.macro.logprobs), -sum(candidates.micro.logprobs)


TOTAL_NLL = _TotalNll()
