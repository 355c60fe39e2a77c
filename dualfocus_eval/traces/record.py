"""The record of one answer: all that reports, ablations and a resumed run need, as one JSON line.

Names of rules, methods, outcomes and decisions are plain texts here, so that a record can be read where the package
that brought them is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from dualfocus_eval.common.escaping import json_number
from dualfocus_eval.common.geometry import Box, Crop
from dualfocus_eval.common.numbers import Flag, Integer, Logprobs, Number
from dualfocus_eval.engines.base import Completion, Counters, Failure, Picture, mean_nll
from dualfocus_eval.traces.migration import migrated

__all__ = [
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

TRACE_VERSION: Literal[4] = 4
"""Older ones are read too; `traces.migration` says what has changed since."""

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
    """Why a question has the macro answer, beside a grounding method's own reasons (such as `boxes.BoxOutcome`)."""

    NO_IMAGE = "no_image"
    SEVERAL_IMAGES = "several_images"
    VIDEO = "video"
    EMPTY_STEM = "empty_stem"
    CROP_TOO_SMALL = "crop_too_small"
    GROUNDING_FAILED = "grounding_failed"
    MICRO_FAILED = "micro_failed"
    SCORING_FAILED = "scoring_failed"
    NOT_CALIBRATED = "not_calibrated"
    """The calibrated choice was fitted on no answers of this kind, or lacks one of its features here."""


class TraceFormatError(ValueError):
    """A line that is not a trace that this version reads."""


@dataclass(frozen=True)
class ImageInfo:
    """An image of the question as the model saw it, after rotation and conversion."""

    digest: str
    width: Integer
    height: Integer

    @classmethod
    def of(cls, picture: Picture) -> ImageInfo:
        return cls(picture.digest, *picture.pixels.size)


@dataclass(frozen=True)
class Grounding:
    """What a grounding method found: the box as fractions of the raw image, and the crop in its pixels."""

    response: Completion | None
    """The model's own text, if the method has it write one."""
    outcome: str
    """``ok``, another word for a usable box, or the method's reason why there is none."""
    box: Box | None = None
    crop: Crop | None = None
    method: str = "text_box"
    """Its name; ``text_box`` asks the model for the box."""


@dataclass(frozen=True)
class ContextScores:
    """Token log-probabilities of both candidates in micro context, under the scoring prompt."""

    scored: str
    """``answer``: the answers as generated; ``option_text``: the texts of the options that they name."""
    macro: Logprobs
    micro: Logprobs
    methods: tuple[str, str] | None = None
    """How a server was made to compute those of macro and of micro (`Score.method`); None of an engine in process."""

    @property
    def macro_nll(self) -> float:
        return mean_nll(self.macro)

    @property
    def micro_nll(self) -> float:
        return mean_nll(self.micro)


@dataclass(frozen=True)
class Cost:
    """What the engine did for one batch of questions. It stands in the batch's first trace only, so that sums hold."""

    questions: Integer
    images_encoded: Integer
    tokens_prefilled: Integer
    tokens_reused: Integer
    decode_steps: Integer
    batch_halvings: Integer
    seconds: Mapping[str, Number]

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
    two passes has the macro answer: a `Fallback`, or the grounding method's own reason.
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
    second_pass: str | None = None
    """How the micro answer's conversation was laid out; None where there is no micro answer."""
    scores: ContextScores | None = None
    picks: Mapping[str, Pathway] = field(default_factory=dict)
    """What each selection rule picks, by its name; a rule whose needs were not known is missing."""
    selected: Pathway | None = None
    decision: str | None = None
    """`Decision`."""
    skipped_micro: Flag = False
    """The macro answer was confident enough (``adaptive_nll``)."""
    fallback: str | None = None
    cause: Failure | None = None
    """The engine's own words behind a fallback that a failure led to."""
    error: Failure | None = None
    cost: Cost | None = None
    arithmetic: Mapping[str, str] = field(default_factory=dict)
    """`engines.environment.arithmetic_of`: versions, precision and device that computed it; empty where unknown."""
    version: Literal[4] = TRACE_VERSION

    @property
    def answer(self) -> Completion | None:
        """The selected candidate; None for a failed question."""
        return {"macro": self.macro, "micro": self.micro, None: None}[self.selected]

    @property
    def text(self) -> str:
        """The selected candidate's text; empty for a failed question."""
        return self.answer.text if self.answer else ""

    def to_json(self) -> str:
        """One line of strict JSON in ASCII; numbers that are not finite become null.

        What is None in ``_MAYBE_ABSENT`` has no key, as in the releases before there was any.
        """
        return json.dumps(_finite(asdict(self, dict_factory=_fields)), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Trace:
        """The inverse of `to_json`, for lines of every version.

        Raises TraceFormatError, naming the field at fault, so that every field of a trace has its type and no number is
        absurdly large.
        """
        try:
            return cls(**_LINE.validate_json(line))
        except ValidationError:
            # An older version, half of a surrogate pair (which pydantic's parser refuses), or no trace at all.
            return _read_again(line)


# All keys of a line are required, those of fields with a default too: a line that lacks one was damaged.
_LINE: TypeAdapter[dict[str, Any]] = TypeAdapter(
    with_config(ConfigDict(extra="forbid"))(TypedDict("_Line", get_type_hints(Trace, include_extras=True)))  # type: ignore[operator]
)


_MAYBE_ABSENT = frozenset({"thinking", "methods"})
"""Fields of completions and scores that came later."""


def _read_again(line: str | bytes) -> Trace:
    try:
        return Trace(**_LINE.validate_python(migrated(json.loads(line), TRACE_VERSION)))
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_context=False)
        place = ".".join(map(str, first["loc"]))
        raise TraceFormatError(f"not a trace: {place}: {first['msg']}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TraceFormatError(f"not a trace: {type(error).__name__}: {error}") from error


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if value is not None or name not in _MAYBE_ABSENT}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
