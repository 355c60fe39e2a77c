"""The record of one answer: all that reports, ablations and a resumed run need, as one JSON line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

from dualfocus_eval.common.old_names import current_rule
from dualfocus_eval.engines.base import Completion, Counters, Failure, Picture, mean_nll
from dualfocus_eval.method.boxes import Box, BoxOutcome
from dualfocus_eval.method.crops import Crop
from dualfocus_eval.traces.decoding import decoder

__all__ = [
    "TRACE_VERSION",
    "ContextScores",
    "Cost",
    "Decision",
    "Fallback",
    "Grounding",
    "ImageInfo",
    "Pathway",
    "Trace",
    "TraceFormatError",
]

TRACE_VERSION = 3
"""2: completions carry their ``gap``, unknown in version 1. 3: traces carry their ``arithmetic``, unknown before."""
_READABLE = (1, 2, TRACE_VERSION)
_WITH_ARITHMETIC = 3


Pathway = Literal["macro", "micro"]


class Decision(StrEnum):
    """What decided between the candidates."""

    NLL = "nll"
    """The costs that the selection rule compares."""
    AGREEMENT = "agreement"
    """Equal after normalisation: the macro answer's own spelling is kept, whatever the rule."""
    ONLY_VALID_OPTION = "only_valid_option"
    NO_VALID_OPTION = "no_valid_option"
    """Neither candidate names an option: macro."""
    ONLY_CANDIDATE = "only_candidate"
    NO_SCORES = "no_scores"
    """What the rule needs is not known: macro."""


class Fallback(StrEnum):
    """Why a question has the macro answer, beside the outcomes of an unusable box (`boxes.BoxOutcome`)."""

    NO_IMAGE = "no_image"
    SEVERAL_IMAGES = "several_images"
    VIDEO = "video"
    EMPTY_STEM = "empty_stem"
    CROP_TOO_SMALL = "crop_too_small"
    GROUNDING_FAILED = "grounding_failed"
    MICRO_FAILED = "micro_failed"
    SCORING_FAILED = "scoring_failed"


class TraceFormatError(ValueError):
    """A line that is not a trace that this version reads."""


@dataclass(frozen=True)
class ImageInfo:
    """An image of the question as the model saw it, after rotation and conversion."""

    digest: str
    width: int
    height: int

    @classmethod
    def of(cls, picture: Picture) -> ImageInfo:
        return cls(picture.digest, *picture.pixels.size)


@dataclass(frozen=True)
class Grounding:
    """A1: what the model wrote, the box in it as fractions of the raw image, and the crop in its pixels."""

    response: Completion
    outcome: BoxOutcome
    box: Box | None = None
    crop: Crop | None = None


@dataclass(frozen=True)
class ContextScores:
    """Token log-probabilities of both candidates in micro context, under the scoring prompt."""

    scored: str
    """``answer``: the answers as generated; ``option_text``: the texts of the options that they name."""
    macro: tuple[float, ...]
    micro: tuple[float, ...]

    @property
    def macro_nll(self) -> float:
        return mean_nll(self.macro)

    @property
    def micro_nll(self) -> float:
        return mean_nll(self.micro)


@dataclass(frozen=True)
class Cost:
    """What the engine did for one batch of questions. It stands in the batch's first trace only, so that sums hold."""

    questions: int
    images_encoded: int
    tokens_prefilled: int
    tokens_reused: int
    decode_steps: int
    batch_halvings: int
    seconds: Mapping[str, float]

    @classmethod
    def between(cls, before: Counters, after: Counters, questions: int) -> Cost:
        return cls(
            questions,
            after.images_encoded - before.images_encoded,
            after.tokens_prefilled - before.tokens_prefilled,
            after.tokens_reused - before.tokens_reused,
            after.decode_steps - before.decode_steps,
            after.batch_halvings - before.batch_halvings,
            {phase: spent - before.seconds.get(phase, 0.0) for phase, spent in after.seconds.items()},
        )


@dataclass(frozen=True)
class Trace:
    """One question, answered or failed.

    A failed question has an ``error`` and no ``selected``. ``fallback`` says why a question that was to be answered in
    two passes has the macro answer: an outcome of the box (`BoxOutcome`), or a `Fallback`.
    """

    key: str
    question_digest: str
    settings_key: str
    """`settings.settings_key`: digest of the settings and the checkpoint."""
    kind: str
    """`question.AnswerKind`."""
    images: tuple[ImageInfo, ...]
    macro: Completion | None = None
    micro: Completion | None = None
    grounding: Grounding | None = None
    scores: ContextScores | None = None
    picks: Mapping[str, Pathway] = field(default_factory=dict)
    """What each selection rule picks, by its name; a rule whose needs were not known is missing."""
    selected: Pathway | None = None
    decision: Decision | None = None
    skipped_micro: bool = False
    """The macro answer was confident enough (``adaptive_nll``)."""
    fallback: str | None = None
    cause: Failure | None = None
    """The engine's own words behind a fallback that a failure led to."""
    error: Failure | None = None
    cost: Cost | None = None
    arithmetic: Mapping[str, str] = field(default_factory=dict)
    """`harness.environment.arithmetic_of`: versions, precision and device that computed it; empty where unknown."""
    version: int = TRACE_VERSION

    @property
    def answer(self) -> Completion | None:
        """The selected candidate; None for a failed question."""
        return {"macro": self.macro, "micro": self.micro, None: None}[self.selected]

    @property
    def text(self) -> str:
        """The selected candidate's text; empty for a failed question."""
        return self.answer.text if self.answer else ""

    def to_json(self) -> str:
        """One line of strict JSON in ASCII; numbers that are not finite become null."""
        return json.dumps(_finite(asdict(self)), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Trace:
        """The inverse of `to_json`. Raises TraceFormatError, saying what is wrong, so that every field of a trace has
        its type and no number is absurdly large."""
        try:
            found = json.loads(line)
            if found["version"] not in _READABLE:
                raise TraceFormatError(f"trace version {found['version']!r}, this is version {TRACE_VERSION}")
            if found["version"] < _WITH_ARITHMETIC:
                found["arithmetic"] = {}
            if missing := Trace.__dataclass_fields__.keys() - found.keys():
                raise TraceFormatError(f"not a trace: it lacks {', '.join(sorted(missing))}")
            if isinstance(picks := found.get("picks"), dict):
                found["picks"] = {current_rule(rule): pathway for rule, pathway in picks.items()}
            return _decoded(found)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise TraceFormatError(f"not a trace: {type(error).__name__}: {error}") from error


_decoded = decoder(Trace)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
