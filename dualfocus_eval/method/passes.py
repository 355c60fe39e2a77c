"""The passes over an engine, and what each leaves with the questions of a batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from dualfocus_eval.engines.base import Completion, Conversation, Engine, Failure, GenerateRequest, Picture
from dualfocus_eval.method.boxes import CONVENTIONS, parse_box
from dualfocus_eval.method.conversations import grounding_conversation, macro_conversation, micro_conversation
from dualfocus_eval.method.crops import crop_of, crop_picture, shifted
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.selection.deciding import is_confident
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import ContextScores, Decision, Fallback, Grounding, Pathway

__all__ = ["Work", "answering", "attempt", "call", "check", "first_pass", "macro_pass", "second_pass"]

_log = logging.getLogger(__name__)


@dataclass
class Work:
    """A question on its way through the passes."""

    question: Question
    macro: Completion | None = None
    micro: Completion | None = None
    grounding: Grounding | None = None
    crop: Picture | None = None
    scores: ContextScores | None = None
    picks: dict[str, Pathway] = field(default_factory=dict)
    selected: Pathway | None = None
    """Set where no scores are needed; where they are, the rule's pick is taken from ``picks``."""
    decision: Decision | None = None
    skipped_micro: bool = False
    fallback: str | None = None
    cause: Failure | None = None
    error: Failure | None = None

    def fall_back(self, reason: str, cause: Failure | None = None) -> None:
        self.fallback, self.cause, self.crop = reason, cause, None


def check(works: Sequence[Work], settings: Settings) -> None:
    """Mark what cannot be asked at all, and what cannot be grounded."""
    for work in works:
        question = work.question
        if question.failure:
            work.error = question.failure
        elif not question.prompt.strip():
            work.error = Failure("empty_question", f"{question.key}: the prompt is empty")
        elif question.video and not question.images:
            work.error = Failure("video_without_frames", f"{question.key}: no frames of its video were given")
        elif settings.strategy != "macro":
            work.fallback = _not_groundable(question)


def _not_groundable(question: Question) -> Fallback | None:
    if question.video:
        return Fallback.VIDEO
    if len(question.images) != 1:
        return Fallback.SEVERAL_IMAGES if question.images else Fallback.NO_IMAGE
    return None if question.stem.strip() else Fallback.EMPTY_STEM


def first_pass(works: Sequence[Work], engine: Engine, settings: Settings, *, macro: bool) -> None:
    """Macro answers and boxes of all questions in one call, so that both share the encoded image (Eq. 2 and 5)."""
    answered = [work for work in works if macro and not work.error]
    grounded = [work for work in works if settings.strategy != "macro" and not (work.error or work.fallback)]
    requests = [_macro_request(work.question) for work in answered]
    requests += [
        GenerateRequest(grounding_conversation(work.question, settings.prompt_set), settings.max_box_tokens)
        for work in grounded
    ]
    results = iter(call(engine.generate, requests))
    for work in answered:
        _take_macro(work, next(results))
    for work in grounded:
        grounding_response = next(results)
        if isinstance(grounding_response, Failure):
            work.fall_back(Fallback.GROUNDING_FAILED, grounding_response)
        else:
            _zoom(work, grounding_response, engine, settings)


def macro_pass(works: Sequence[Work], engine: Engine) -> None:
    """Macro answers (Eq. 5)."""
    results = call(engine.generate, [_macro_request(work.question) for work in works])
    for work, result in zip(works, results, strict=True):
        _take_macro(work, result)


def _macro_request(question: Question) -> GenerateRequest:
    return GenerateRequest(macro_conversation(question), question.max_new_tokens, question.stop)


def _take_macro(work: Work, result: Completion | Failure) -> None:
    if isinstance(result, Failure):
        work.error = result
    else:
        work.macro = result


def _zoom(work: Work, grounding_response: Completion, engine: Engine, settings: Settings) -> None:
    """Read the box in A1 and cut its crop from the original image."""
    (picture,) = work.question.images
    size = picture.pixels.size
    in_pixels = CONVENTIONS[settings.box_convention].scale is None
    encoded = attempt(partial(engine.encoded_size, picture)) if in_pixels else None
    if isinstance(encoded, Failure):
        work.fall_back(Fallback.GROUNDING_FAILED, encoded)
        return
    parsed = parse_box(
        grounding_response.text,
        settings.box_convention,
        image_size=size,
        encoded_size=encoded,
        frame=settings.box_frame,
    )
    work.grounding = Grounding(grounding_response, parsed.outcome, parsed.box)
    if parsed.box is None:
        work.fall_back(parsed.outcome)
        return
    seed = f"{settings.jitter_seed}/{work.question.key}"
    box = shifted(parsed.box, size, settings.jitter, seed) if settings.jitter else parsed.box
    crop = crop_of(box, size, rule=settings.crop, margin=settings.margin)
    if crop is None:
        work.fall_back(Fallback.CROP_TOO_SMALL)
        return
    work.grounding = Grounding(grounding_response, parsed.outcome, parsed.box, crop)
    work.crop = crop_picture(picture, crop)


def second_pass(works: Sequence[Work], engine: Engine, settings: Settings) -> None:
    """Micro answers (Eq. 6) of all questions that have a crop and are not confident already (appendix C)."""
    for work in works:
        if work.crop and work.macro and is_confident(work.macro, settings.adaptive_nll):
            work.skipped_micro, work.crop = True, None
    zoomed = [work for work in works if work.crop and not work.error]
    requests = [
        GenerateRequest(answering(work, settings), work.question.max_new_tokens, work.question.stop) for work in zoomed
    ]
    for work, result in zip(zoomed, call(engine.generate, requests), strict=True):
        if isinstance(result, Failure):
            work.fall_back(Fallback.MICRO_FAILED, result)
        else:
            work.micro = result


def answering(work: Work, settings: Settings) -> Conversation:
    """The conversation that the micro answer of a zoomed question continues."""
    assert work.grounding
    assert work.crop
    return micro_conversation(work.question, work.grounding.response, work.crop, settings.prompt_set)


RequestT = TypeVar("RequestT", bound=Hashable)
ResultT = TypeVar("ResultT")


def call(
    run: Callable[[Sequence[RequestT]], list[ResultT | Failure]], requests: Sequence[RequestT]
) -> list[ResultT | Failure]:
    """Results of all requests. Equal requests are sent once; what an engine raises costs only the request at fault."""
    distinct = list(dict.fromkeys(requests))
    if not distinct:
        return []
    results = attempt(partial(run, distinct))
    if isinstance(results, Failure):
        alone = [attempt(partial(run, [request])) for request in distinct]
        results = [result if isinstance(result, Failure) else result[0] for result in alone]
    by_request = dict(zip(distinct, results, strict=True))
    return [by_request[request] for request in requests]


def attempt(compute: Callable[[], ResultT]) -> ResultT | Failure:
    """What ``compute`` returns, or a Failure of kind ``engine_error`` for what it raises, logged with its traceback."""
    try:
        return compute()
    except Exception as error:
        _log.exception("the engine raised instead of returning a failure")
        return Failure("engine_error", f"{type(error).__name__}: {error}")
