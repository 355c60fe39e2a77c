"""What is measured on a GPU: one kind of row per table of docs/gpu.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Agreement", "Exactness", "Findings", "Missing", "Phase", "Row", "Timing"]


@dataclass(frozen=True)
class Exactness:
    """How a small model's answers in float32 compare with plain transformers, over all settings of the engine."""

    model: str
    rows: int
    """Conversations and scores compared, of all settings together."""
    tokens: int
    difference: float
    """Largest difference of log-probabilities, in nats."""
    parted: int
    """Rows that got other tokens where the reference's two best logits are within the tolerance."""
    differing: int
    """Rows that got other tokens elsewhere, or that failed."""
    holds: bool
    """Whether the contract holds at every setting."""


@dataclass(frozen=True)
class Timing:
    """What one system takes for questions about pictures."""

    model: str
    system: str
    per_image: int
    """Questions per image."""
    batch: int
    """Questions at a time."""
    cache: float | None
    """Budget of the prefix cache in GiB; None for a system that has none."""
    questions: int
    seconds: float
    """Wall time per question."""
    peak: float | None
    """Largest memory that tensors took on the device at once, weights included, in GiB; None on a CPU."""
    reused: float | None
    """Share of the prompt tokens whose states were reused; None for a system that reuses none."""


@dataclass(frozen=True)
class Agreement:
    """How many answers in half precision differ from those of the same model one question at a time, without reuse."""

    model: str
    dtype: str
    setting: str
    answers: int
    differing: int
    failed: int
    """Answers that were not given, for numbers that are not finite for example."""


@dataclass(frozen=True)
class Phase:
    """Where the time of one run goes, the device being waited for at the end of every phase."""

    model: str
    batch: int
    phase: str
    seconds: float
    """Per question."""
    share: float
    """Of the run's wall time."""
    outside: float | None
    """Share of the phase that was spent outside the model's forward passes; None for a phase that has none."""


Row = Exactness | Timing | Agreement | Phase


@dataclass(frozen=True)
class Missing:
    """A step that gave no rows of ``kind``, and why."""

    kind: type[Row]
    step: str
    reason: str
    failed: bool = True
    """False for a step that there was no time for."""


@dataclass(eq=False)
class Findings:
    """What has been measured so far, and what has not."""

    rows: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def of(self, kind: type[Row]) -> Sequence[Row]:
        """The rows of one kind."""
        return [row for row in self.rows if isinstance(row, kind)]

    @property
    def sound(self) -> bool:
        """Whether no step failed and float32 is exact."""
        exact = all(row.holds for row in self.rows if isinstance(row, Exactness))
        return exact and not any(missing.failed for missing in self.missing)
