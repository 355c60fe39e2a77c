"""A calibrated choice: a logistic regression on what a trace has, fitted on one run and kept in a file. Each kind of
answers has a regression of its own.

It is a selection rule of one model. Its costs are the NLLs of each candidate being the better one, in nats, so that the
lower one is selected as under every rule.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.common.escaping import json_text
from dualfocus_eval.common.files import open_regular, replacing
from dualfocus_eval.common.validation import CLOSED, validated
from dualfocus_eval.method.selection.base import Candidates, Need
from dualfocus_eval.method.selection.features import (
    FEATURES,
    FEATURES_VERSION,
    RESPONSE_FEATURE,
    answer_kind,
    features_of,
)

__all__ = [
    "CALIBRATION_FILE",
    "CALIBRATION_LABEL",
    "CALIBRATION_NEEDS",
    "Calibration",
    "FittedTask",
    "Regression",
    "Term",
    "Validation",
    "image_mark",
    "is_calibration",
    "is_calibration_file",
    "load_calibration",
    "read_calibration",
    "save_calibration",
    "signed",
]

CALIBRATION_LABEL = "each answer as the better one, by a fitted regression"
CALIBRATION_NEEDS: frozenset[Need] = frozenset({"micro_context_scores"})

CALIBRATION_FILE = "calibration.json"
"""A checkpoint's own, beside its ``dualfocus.json``."""
FORMAT = 1
"""Of the file."""
_SUFFIX = ".json"
_PREFIX, _DIGITS = "calibrated_", 8
_NAME = re.compile(rf"{_PREFIX}[0-9a-f]{{{_DIGITS}}}")
_MARK = 16
"""Hexadecimal digits of an image's digest that are kept."""

Interval = tuple[float | None, float | None, float | None]
"""A value and its 95% interval; None for what is not known."""


def is_calibration_file(selection: str) -> bool:
    """Whether ``selection`` names a file, and no rule."""
    return selection.endswith(_SUFFIX)


def is_calibration(name: str) -> bool:
    """Whether this is the name of a calibrated choice, `Calibration.name`."""
    return _NAME.fullmatch(name) is not None


def image_mark(digest: str) -> str:
    """What a calibration keeps of an image's digest."""
    return digest[:_MARK]


@dataclass(frozen=True, config=CLOSED)
class Term:
    """``coefficient * (feature - mean) / scale``."""

    feature: str
    coefficient: float
    mean: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True, config=CLOSED)
class Regression:
    """For one kind of answers: the log-odds that the micro answer is the better one, ``intercept`` plus ``terms``."""

    intercept: float
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if unknown := sorted({term.feature for term in self.terms} - FEATURES.keys()):
            raise ValueError(f"unknown feature {unknown[0]!r}")

    def odds(self, values: Mapping[str, float]) -> float | None:
        """The log-odds by the features ``values``; None where one is missing."""
        if any(term.feature not in values for term in self.terms):
            return None
        return self.intercept + math.fsum(
            term.coefficient * (values[term.feature] - term.mean) / term.scale for term in self.terms
        )


@dataclass(frozen=True, config=CLOSED)
class FittedTask:
    """What a calibration was fitted on, of one task."""

    questions: int
    differing: int
    """Questions of which one answer scores higher, without which nothing can be learned."""
    digest: str
    """Of the questions, their images and the scores of both answers."""


@dataclass(frozen=True, config=CLOSED)
class Validation:
    """What the choice was worth on the run that it was fitted on, each image's questions judged by a fit without it."""

    folds: int
    images: int
    scores: Mapping[str, Interval]
    """Mean score under macro, micro, every rule, ``calibrated`` and ``oracle``, in percent."""
    best_rule: str
    """The perplexity rule of the highest score."""
    closed: Interval
    """Share of the gap between ``best_rule`` and the oracle that the choice closes."""


@dataclass(frozen=True, config=CLOSED)
class Calibration:
    """A fitted choice; a selection rule (`base.SelectionRule`) of the model that it was fitted on.

    `signed` makes one.
    """

    model: str
    """`RunEngine.identity`: the checkpoint's name and, after the last hyphen, the digest of its content."""
    settings: Mapping[str, Any]
    """Settings of the run that it was fitted on."""
    tasks: Mapping[str, FittedTask]
    kinds: Mapping[str, Regression]
    """By `features.answer_kind`; of answers of other kinds it knows nothing."""
    unfitted: tuple[str, ...]
    """Kinds of answers that the run had too few of."""
    validation: Validation
    images: tuple[str, ...]
    """`image_mark` of every image that it was fitted on, sorted."""
    format: int = FORMAT
    version: int = FEATURES_VERSION
    digest: str = ""
    """Of all the rest."""

    @property
    def name(self) -> str:
        """It stands for the content: two calibrations of one name are the same."""
        return f"{_PREFIX}{self.digest[:_DIGITS]}"

    @property
    def label(self) -> str:
        return CALIBRATION_LABEL

    @property
    def needs(self) -> frozenset[Need]:
        looks_at = {term.feature for regression in self.kinds.values() for term in regression.terms}
        return CALIBRATION_NEEDS | ({"grounding_response"} if RESPONSE_FEATURE in looks_at else set())

    def costs(self, candidates: Candidates) -> tuple[float, float] | None:
        """None where a feature is missing, or where the answers are of a kind that it was not fitted on."""
        regression = self.kinds.get(answer_kind(candidates))
        odds = regression.odds(features_of(candidates)) if regression else None
        if odds is None:
            return None
        return _softplus(odds), _softplus(-odds)

    @cached_property
    def _seen(self) -> frozenset[str]:
        return frozenset(self.images)

    def has_seen(self, image_digest: str) -> bool:
        """Whether it was fitted on that image, so that a question about it is no test of it."""
        return image_mark(image_digest) in self._seen

    @property
    def content(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return asdict(self)


def _softplus(value: float) -> float:
    """log(1 + exp(value)), without overflow."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps({name: value for name, value in content.items() if name != "digest"}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def signed(calibration: Calibration) -> Calibration:
    """The same with the digest of its content."""
    return replace(calibration, digest=_digest(calibration.content))


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write it as JSON. Raises ``UserError`` where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json_text(calibration.content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}; name another file") from error


def load_calibration(path: Path) -> Calibration:
    """What `save_calibration` wrote. Raises ``UserError`` that names the file and what is wrong with it."""
    where = f"calibration {path}"
    try:
        with open_regular(path) as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        raise UserError(f"{where} does not exist; `dualfocus calibrate RUN --out FILE` makes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where} cannot be read: {first_line(error)}; {_AGAIN}") from error
    return read_calibration(content, where)


def read_calibration(content: Any, where: str) -> Calibration:
    """The calibration that decoded JSON describes. Raises ``UserError``, beginning with ``where``."""
    if not isinstance(content, dict) or not {"format", "version", "kinds", "digest"} <= content.keys():
        raise UserError(f"{where} is none: it lacks format, version, kinds or digest; {_AGAIN}")
    for name, current in (("format", FORMAT), ("version", FEATURES_VERSION)):
        if content[name] != current:
            raise UserError(f"{where} has {name} {content[name]!r:.20}, and this package reads {current}; {_AGAIN}")
    found = validated(Calibration, content, where)
    if _digest(found.content) != found.digest:
        raise UserError(f"{where} was changed since it was written: its digest is another; {_AGAIN}")
    return found


_AGAIN = "make it again with `dualfocus calibrate RUN --out FILE`"
