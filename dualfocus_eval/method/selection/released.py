"""``released``: as the released code computes it.

Both candidates are scored in the micro pathway's context, and the mean runs over the tokens of the grounding response
as well: (sum NLL(A1) + sum NLL(answer)) / (|A1| + |answer|). It favours longer answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualfocus_eval.engines.base import mean_nll
from dualfocus_eval.method.selection.base import Candidates, Need

__all__ = ["RELEASED"]


@dataclass(frozen=True)
class _Released:
    name: str = "released"
    label: str = "box and answer together, both in the micro pathway's context"
    needs: frozenset[Need] = frozenset({"micro_context_scores", "grounding_response"})

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        response = candidates.grounding_response
        # A response that the model is only said to have written has no log-probabilities.
        if candidates.scores is None or response is None or not response.logprobs:
            return None
        box = response.logprobs
        return _joint(box, candidates.scores.macro), _joint(box, candidates.scores.micro)


def _joint(box: Sequence[float], answer: Sequence[float]) -> float:
    return mean_nll([*box, *answer])


RELEASED = _Released()
