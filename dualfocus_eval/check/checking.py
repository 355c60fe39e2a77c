"""The check of a setup: both passes over the probes, and what is off, in one result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from dualfocus_eval.check.agreement import Agreement, compare_variants
from dualfocus_eval.check.boxes import BoxCheck, Response, check_boxes
from dualfocus_eval.check.metering import Usage
from dualfocus_eval.check.passes import Passes, run_passes
from dualfocus_eval.check.probes import Probe
from dualfocus_eval.check.prompts import PromptCheck, check_prompts, encoded_size
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.base import Failure
from dualfocus_eval.engines.running import EngineInfo, RunEngine
from dualfocus_eval.harness.fitting import fitting_settings, rules_without_scores
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Decided, Failed, Pair, Unzoomed, Zoomed

__all__ = ["SetupCheck", "check_setup"]


@dataclass(frozen=True)
class SetupCheck:
    """All that was found out about a setup."""

    questions: int
    engine: EngineInfo
    settings: Settings
    """As they were checked: in two passes, every region as the model names it."""
    prompts: PromptCheck
    boxes: BoxCheck | None
    """None where the grounding method has the model write nothing, or no question got a response."""
    agreement: tuple[Agreement, ...]
    usage: Mapping[str, Usage]
    """By the name of the pass, over all questions."""
    second_passes: int
    """Questions that were answered in the second pass."""
    regions_given: int
    """Those of them that got a known region, since the model's response had no usable box."""
    batch_halvings: int
    """How often a batch did not fit into memory and was split."""
    failures: tuple[str, ...]
    """Why questions or their second passes failed, the same reason once."""
    failed: int
    """Questions that it happened to."""
    refused: str | None = None
    """Why a run with the settings as they are given would be refused, whatever the answers."""
    warnings: tuple[str, ...] = ()
    """What else the engine noticed."""

    def as_dict(self) -> dict[str, Any]:
        """It for JSON; numbers that are not finite are None."""
        values: dict[str, Any] = json.loads(TypeAdapter(SetupCheck).dump_json(self))
        return values


def check_setup(probes: Sequence[Probe], engine: RunEngine, settings: Settings, *, batch_size: int) -> SetupCheck:
    """Ask ``probes`` in two passes and look at all that can be set up wrongly.

    The strategy, the adaptive threshold and the moving of boxes in ``settings`` are set aside: both passes are checked,
    undisturbed.
    Candidates are not scored by an engine that cannot.
    """
    refused = _refused(settings, engine)
    grounding = "text_box" if settings.grounding == "shifted" else settings.grounding
    settings = replace(settings, strategy="dualfocus", adaptive_nll=None, grounding=grounding, jitter=0.0)
    if not engine.can_score:
        settings = replace(settings, selection=rules_without_scores()[0], score_all=False)
    passes = run_passes(probes, engine, settings, batch_size)
    causes = [failure for state in (*passes.answered, *passes.decided) if (failure := _failure(state))]
    return SetupCheck(
        questions=len(probes),
        engine=engine.info,
        settings=settings,
        prompts=check_prompts(passes, engine, settings),
        boxes=_boxes(probes, passes, engine, settings),
        agreement=tuple(compare_variants(passes.calls, engine)),
        usage=passes.usage,
        second_passes=sum(isinstance(state, Pair) for state in passes.answered),
        regions_given=sum(
            isinstance(zoomed, Zoomed) and not isinstance(looked, Zoomed)
            for looked, zoomed in zip(passes.looked, passes.zoomed, strict=True)
        ),
        batch_halvings=engine.counters.batch_halvings,
        failures=tuple(dict.fromkeys(f"{failure.kind}: {failure.message}" for failure in causes)),
        failed=len(causes),
        refused=refused,
        warnings=engine.warnings,
    )


def _refused(settings: Settings, engine: RunEngine) -> str | None:
    try:
        fitting_settings(settings, engine)
    except UserError as error:
        return str(error)
    return None


def _failure(state: object) -> Failure | None:
    """What ended a question, its second pass or its scoring, that is no finding of the grounding method."""
    if isinstance(state, Failed):
        return state.error
    return state.cause if isinstance(state, (Unzoomed, Decided)) else None


def _boxes(probes: Sequence[Probe], passes: Passes, engine: RunEngine, settings: Settings) -> BoxCheck | None:
    # Of other methods the responses in the traces are said to be the model's: it has not written them.
    responses = _responses(probes, passes, engine) if GROUNDING[settings.grounding].responds else []
    own = engine.family.box_convention.name
    return check_boxes(responses, settings.box_convention, settings.box_frame, own) if responses else None


def _responses(probes: Sequence[Probe], passes: Passes, engine: RunEngine) -> list[Response]:
    """What the model wrote when it was asked for a box, of all questions where it did."""
    found: list[Response] = []
    for probe, state in zip(probes, passes.looked, strict=True):
        response = state.grounding.response if state.grounding else None
        if response is None:
            continue
        (picture,) = state.question.images
        found.append(
            Response(
                response.text,
                picture.pixels.size,
                encoded_size(picture, engine),
                probe.truth,
                cut=response.finish == "length",
            )
        )
    return found
