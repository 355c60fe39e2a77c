"""Every switch of the method in one validated value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualfocus_eval.common.old_names import current_settings
from dualfocus_eval.common.validation import CLOSED, OneOf, choices_of, validated
from dualfocus_eval.engines.base import DEFAULT_THINKING_TOKENS
from dualfocus_eval.families import box_conventions
from dualfocus_eval.method.boxes import FRAMES
from dualfocus_eval.method.crops import CROP_RULES
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.tiles import GRIDS
from dualfocus_eval.method.prompts import PROMPT_SETS
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.selection import RULES, needs_of
from dualfocus_eval.method.selection.calibration import is_calibration, is_calibration_file

__all__ = [
    "ONLY_WITH",
    "CropRuleName",
    "PromptSetName",
    "Settings",
    "candidate_settings",
    "not_installed",
    "settings_key",
    "stored_settings",
]

METHOD_VERSION = 2
"""Raised when a change of this package can change a candidate, its scores or the choice between them, so that answers
stored before it are not reused. 2: letters are read in more forms, and option texts are scored for them."""

GroundingName = Annotated[str, OneOf(lambda: GROUNDING.items, lambda: GROUNDING.missing)]
SecondPassName = Annotated[str, OneOf(lambda: SECOND_PASSES.items, lambda: SECOND_PASSES.missing)]
RuleName = Annotated[
    str,
    OneOf(
        lambda: RULES.items,
        lambda: RULES.missing,
        lambda value: is_calibration_file(value) or is_calibration(value),
        "the file of a calibrated choice (*.json)",
    ),
]
ConventionName = Annotated[str, OneOf(box_conventions)]
PromptSetName = Annotated[str, OneOf(lambda: PROMPT_SETS)]
FrameName = Annotated[str, OneOf(lambda: FRAMES)]
GridName = Annotated[str, OneOf(lambda: GRIDS)]
CropRuleName = Annotated[str, OneOf(lambda: CROP_RULES)]
Pixels = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=CLOSED)
class Settings:
    """How questions are answered. Resolved once per run: argument > recipe > checkpoint > family > these defaults.

    Raises pydantic's ``ValidationError`` (a ValueError) for a value that is not allowed.
    """

    strategy: Literal["dualfocus", "macro", "micro"] = "dualfocus"
    """Both pathways and a choice between their answers, or one of them alone."""
    grounding: GroundingName = "text_box"
    """How the region is chosen."""
    detector: str | None = None
    """The detector of `grounding=detector`: a folder or hub id of GroundingDINO, MM-GroundingDINO, OWLv2 or OWL-ViT."""
    tiles: GridName = "3x3"
    """Rows and columns of the overlapping tiles of `grounding=tiles`."""
    joined_tiles: Annotated[int, Field(ge=1, le=2)] = 1
    """How many of the best tiles `grounding=tiles` joins in one region."""
    second_pass: SecondPassName = "append_crop"
    """What the model is shown of the region."""
    selection: RuleName = "micro_context"
    """Which rule picks the answer where the candidates differ. The trace records every rule whose needs are known. A
    file that `dualfocus calibrate` wrote becomes the name of what is in it."""
    score_all: bool = True
    """Score candidates in micro context even where ``selection`` does not need it, so that the trace allows every
    ablation."""
    adaptive_nll: Annotated[float, Field(ge=0)] | None = None
    """Skip the micro pathway when the macro answer's NLL (not its perplexity) is below this (appendix C)."""
    prompt_set: PromptSetName = "released"
    """Texts of Q1 and Q2."""
    box_convention: ConventionName = "unit"
    """How the model writes a box."""
    box_frame: FrameName = "image"
    """What box coordinates are fractions of."""
    crop: CropRuleName = "full"
    """How a box becomes whole pixels."""
    margin: Pixels = 25.0
    """Pixels of the original image by which the squared box is enlarged on every side."""
    jitter: Pixels = 0.0
    """Pixels by which ``grounding=shifted`` moves the model's box along both axes (table 5); the direction is drawn per
    question."""
    jitter_seed: int = 0
    """Seed of the directions in which boxes are shifted."""
    option_scoring: Literal["answer", "option_text"] = "option_text"
    """What is scored in micro context for a multiple-choice question: the answers as generated, or the option texts."""
    max_box_tokens: Annotated[int, Field(ge=1)] = 64
    """Longest grounding response, in tokens."""
    attention_layer: Annotated[int, Field(ge=0)] | None = None
    """The decoder layer, counted from 0, whose attention ``grounding=attention`` reads; no effect on other methods. By
    default the one at 14/32 of the depth, which is LLaVA-1.5's best. The best layer depends on the model."""
    max_thinking_tokens: Annotated[int, Field(ge=0)] = DEFAULT_THINKING_TOKENS
    """Most tokens that a checkpoint may think before each answer and grounding response; a longer thought has no
    answer. With 0 the block of thinking is closed before it begins. No effect on checkpoints without such a block."""

    def __post_init__(self) -> None:
        if is_calibration_file(self.selection):
            raise ValueError(
                f"selection={self.selection!r} is a file: read it with `load_calibration`, and give its name"
            )
        if self.grounding == "detector" and self.detector is None and self.strategy != "macro":
            raise ValueError(
                "grounding='detector' needs the detector's name: pass detector=FOLDER or a hub id, such as "
                "detector=IDEA-Research/grounding-dino-base or detector=google/owlv2-base-patch16-ensemble"
            )
        if self.grounding == "shifted" and not self.jitter:
            raise ValueError("grounding='shifted' needs jitter, the number of pixels by which boxes are moved")
        if self.grounding != "shifted" and self.jitter:
            raise ValueError(
                f"jitter={self.jitter:g} moves the boxes of grounding='shifted', not of {self.grounding!r}"
            )
        needs_response = self.strategy == "dualfocus" and "grounding_response" in needs_of(self.selection)
        if needs_response and not GROUNDING[self.grounding].responds:
            raise ValueError(
                f"selection={self.selection!r} needs the model's own words for the region, which "
                f"grounding={self.grounding!r} does not have: choose another selection rule"
            )

    @property
    def scores_candidates(self) -> bool:
        """Whether candidates that differ are scored in micro context."""
        needed = "micro_context_scores" in needs_of(self.selection)
        return self.strategy == "dualfocus" and (self.score_all or needed)


ONLY_WITH = {"attention_layer": "attention", "detector": "detector", "tiles": "tiles", "joined_tiles": "tiles"}
"""Settings that concern one grounding method; keys of answers with another do not hold them."""
_EXTENSIBLE = ("grounding", "second_pass", "selection", "box_convention")
"""Settings whose names other packages can add to."""


def not_installed(settings: Mapping[str, Any]) -> dict[str, str]:
    """Those of ``settings`` that name an extension which is not installed here, with its name."""
    hints = get_type_hints(Settings, include_extras=True)
    named = {name: settings[name] for name in _EXTENSIBLE if isinstance(settings.get(name), str)}
    missing = {name: value for name, value in named.items() if value not in choices_of(hints[name])}
    return {name: value for name, value in missing.items() if name != "selection" or not is_calibration(value)}


def stored_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a file holds, by today's names; a setting that did not exist then has its default.

    The name of an extension that is not installed here is left as it stands: what came of it is in the traces. Raises
    ``UserError`` for what no version of `Settings` was.
    """
    values = current_settings(stored)
    foreign = not_installed(values)
    known = {name: value for name, value in values.items() if name not in foreign}
    return asdict(validated(Settings, known, "settings")) | foreign


_NOT_OF_CANDIDATES = frozenset({"selection", "score_all", "max_thinking_tokens", "detector"})
"""Of a detector the content counts, and not its name."""


def candidate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that can change a candidate or its scores, of every model: all but the selection rule and its like."""
    left_out = {name for name, method in ONLY_WITH.items() if settings["grounding"] != method} | _NOT_OF_CANDIDATES
    return {name: value for name, value in settings.items() if name not in left_out}


def settings_key(settings: Settings, identity: Mapping[str, str]) -> str:
    """Hex digest of all that can change a candidate or its scores; the selection rule is left out.

    With ``strategy=macro`` no setting can: a macro answer is the same whatever region would have been looked at.

    ``identity`` names what runs the model: checkpoint, revision, adapter, dtype, processor options and the like; of a
    checkpoint that thinks also ``max_thinking_tokens``, which concerns no other; and the content of the detector, in
    place of its name.
    """
    relevant = {"strategy": "macro"} if settings.strategy == "macro" else _two_pass_settings(settings)
    relevant |= {"method_version": METHOD_VERSION}
    text = json.dumps({"settings": relevant, "identity": dict(identity)}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _two_pass_settings(settings: Settings) -> dict[str, Any]:
    """What can change a region, a crop, a micro answer or a score."""
    return candidate_settings(asdict(settings)) | {
        "scores_candidates": settings.scores_candidates,
        "grounding_version": GROUNDING[settings.grounding].version,
        "second_pass_version": SECOND_PASSES[settings.second_pass].version,
        "crop_version": CROP_RULES[settings.crop].version,
        "box_convention": box_conventions()[settings.box_convention].identity,
    }
