"""The seam of selection: what a rule knows of the two candidates, and what it has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Completion

if TYPE_CHECKING:
    from dualfocus_eval.traces.record import ContextScores

__all__ = ["Candidates", "Need", "SelectionRule"]

Need = Literal["micro_context_scores", "grounding_response"]
"""``micro_context_scores``: both candidates scored in the micro pathway's context, one more engine call per question.
``grounding_response``: the text in which the model named the region; not every grounding method has one."""


@dataclass(frozen=True)
class Candidates:
    """All that is known of a question's two answers when one of them is to be selected."""

    macro: Completion
    micro: Completion
    grounding_response: Completion | None = None
    scores: ContextScores | None = None
    kind: str = ""
    """`question.AnswerKind`."""
    box: Box | None = None
    """Where the region lies, as fractions of the image."""


class SelectionRule(Protocol):
    """Compares two costs, one for each candidate; the lower one is selected (Eq. 8).

    To add a rule is to write one module with such an object and to register it: in ``selection/__init__.py``, or from
    another package under the entry-point group ``dualfocus_eval.selection``. Another package's rule picks anew from
    stored answers, so that a change of its code counts at once. What it raises costs its own choice of that question.
    """

    @property
    def name(self) -> str:
        """What a user writes: ``selection=NAME``; a word of letters, digits and underscores."""
        ...

    @property
    def label(self) -> str:
        """What it compares, in a few words, for tables and captions."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """What must be computed beside the two answers; decides which engine calls a run makes."""
        ...

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        """The costs of the macro and the micro candidate, in nats; None where something that it needs is missing."""
        ...
