"""The passes over an engine: each takes the questions of a batch one state further (`states`), in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from dualfocus_eval.engines.base import Completion, Conversation, Engine, Failure, GenerateRequest, Message
from dualfocus_eval.method.calls import attempt, call
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.crops import crop_of, crop_picture
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import Exchange, GroundingInput, NoRegion, Region
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.selection.deciding import is_confident
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Asked, Failed, MacroOnly, MicroOnly, Pair, Unzoomed, Zoomed
from dualfocus_eval.traces.record import Fallback, Grounding

__all__ = ["check", "first_pass", "macro_pass", "macro_request", "micro_conversation", "second_pass"]


def check(question: Question, settings: Settings) -> Failed | Unzoomed | Asked:
    """Sort out what cannot be asked at all, and what is not to be grounded or cannot be."""
    if question.failure:
        return Failed(question, question.failure)
    if not question.prompt.strip():
        return Failed(question, Failure("empty_question", f"{question.key}: the prompt is empty"))
    if question.video and not question.images:
        return Failed(question, Failure("video_without_frames", f"{question.key}: no frames of its video were given"))
    if settings.strategy == "macro":
        return Unzoomed(question)
    if reason := _not_groundable(question):
        return Unzoomed(question, fallback=reason)
    requests = attempt(partial(_grounding_requests, question, settings), "grounding_error")
    if isinstance(requests, Failure):
        return Unzoomed(question, fallback=Fallback.GROUNDING_FAILED, cause=requests)
    return Asked(question, requests)


def _grounding_requests(question: Question, settings: Settings) -> tuple[GenerateRequest, ...]:
    requests = tuple(GROUNDING[settings.grounding].requests(question, settings))
    for request in requests:
        _refuse_other(request, GenerateRequest)
    return requests


def _refuse_other(value: object, *kinds: type) -> None:
    """Raise TypeError for what another package's code returned instead of one of ``kinds``."""
    if not isinstance(value, kinds):
        raise TypeError(f"{value!r:.60} is not a {' or a '.join(kind.__name__ for kind in kinds)}")


def _not_groundable(question: Question) -> Fallback | None:
    if question.video:
        return Fallback.VIDEO
    if len(question.images) != 1:
        return Fallback.SEVERAL_IMAGES if question.images else Fallback.NO_IMAGE
    return None if question.stem.strip() else Fallback.EMPTY_STEM


def first_pass(
    checked: Sequence[Failed | Unzoomed | Asked], engine: Engine, settings: Settings, *, macro: bool
) -> list[Failed | Unzoomed | Zoomed]:
    """Macro answers and what grounding requests, of all questions in one call: both share the encoded image (Eq. 2, 5).

    Without ``macro`` the macro answers are left for later.
    """
    answered = [macro_request(state.question, settings) for state in checked if macro and not isinstance(state, Failed)]
    asked = [state for state in checked if isinstance(state, Asked)]
    requested = [request for state in asked for request in state.requests]
    results = call(engine.generate, [*answered, *requested])
    macros, replies = iter(results[: len(answered)]), iter(results[len(answered) :])
    inputs = [
        GroundingInput(state.question, tuple(_reply(request, next(replies)) for request in state.requests))
        for state in asked
    ]
    regions = iter(_regions(inputs, engine, settings))
    states: list[Failed | Unzoomed | Zoomed] = []
    for state in checked:
        if isinstance(state, Failed):
            states.append(state)
            continue
        placed = _placed(state.question, next(regions), settings) if isinstance(state, Asked) else state
        states.append(_with_macro(placed, next(macros)) if macro else placed)
    return states


def _regions(inputs: Sequence[GroundingInput], engine: Engine, settings: Settings) -> list[Region | NoRegion | Failure]:
    method = GROUNDING[settings.grounding]

    def find(some: Sequence[GroundingInput]) -> Sequence[Region | NoRegion]:
        found = method.regions(some, engine, settings)
        for one in found:
            _refuse_other(one, Region, NoRegion)
        return found

    return call(find, inputs, "grounding_error")


def macro_request(question: Question, settings: Settings) -> GenerateRequest:
    """What the macro answer is asked for with (Eq. 5)."""
    return _answer_request(macro_conversation(question), question, settings)


def _answer_request(conversation: Conversation, question: Question, settings: Settings) -> GenerateRequest:
    return GenerateRequest(
        conversation, question.max_new_tokens, question.stop, settings.max_thinking_tokens, unmarked=True
    )


def _reply(request: GenerateRequest, result: Completion | Failure) -> Exchange | Failure:
    return result if isinstance(result, Failure) else Exchange(request.conversation, result)


def _placed(question: Question, found: Region | NoRegion | Failure, settings: Settings) -> Unzoomed | Zoomed:
    """Cut the region's crop from the original image."""
    if isinstance(found, Failure):
        return Unzoomed(question, fallback=Fallback.GROUNDING_FAILED, cause=found)
    response = found.exchange.response if found.exchange else None
    if isinstance(found, NoRegion):
        # What a failure led to is no finding of the method.
        finding = None if found.cause else Grounding(response, found.reason, method=settings.grounding)
        return Unzoomed(question, grounding=finding, fallback=found.reason, cause=found.cause)
    grounding = Grounding(response, found.outcome, found.box, method=settings.grounding)
    (picture,) = question.images
    size = picture.pixels.size
    crop = crop_of(found.box, size, rule=settings.crop, margin=settings.margin)
    if crop is None:
        return Unzoomed(question, grounding=grounding, fallback=Fallback.CROP_TOO_SMALL)
    zoom = Zoom(found.box, crop, crop_picture(picture, crop), found.exchange)
    return Zoomed(question, replace(grounding, crop=crop), zoom)


def _with_macro(placed: Unzoomed | Zoomed, result: Completion | Failure) -> Failed | Unzoomed | Zoomed:
    if not isinstance(result, Failure):
        return replace(placed, macro=result)
    if isinstance(placed, Zoomed):
        return Failed(placed.question, result, placed.grounding)
    return Failed(placed.question, result, placed.grounding, placed.fallback, placed.cause)


def second_pass(
    states: Sequence[Failed | Unzoomed | Zoomed], engine: Engine, settings: Settings
) -> list[Failed | Unzoomed | MicroOnly | Pair]:
    """Micro answers (Eq. 6) of all questions with a region whose macro answer is not confident already (appendix C)."""
    laid_out = [_laid_out(state, settings) for state in states]
    requests = [
        _answer_request(conversation, state.question, settings)
        for state, conversation in laid_out
        if conversation is not None
    ]
    results = iter(call(engine.generate, requests))
    return [_with_micro(state, next(results)) if isinstance(state, Zoomed) else state for state, _ in laid_out]


def _laid_out(
    state: Failed | Unzoomed | Zoomed, settings: Settings
) -> tuple[Zoomed, Conversation] | tuple[Failed | Unzoomed, None]:
    """The state with the conversation that its micro answer continues, where it is to have one."""
    if not isinstance(state, Zoomed):
        return state, None
    if state.macro and is_confident(state.macro, settings.adaptive_nll):
        return Unzoomed(state.question, state.macro, state.grounding, skipped_micro=True), None
    conversation = micro_conversation(state, settings)
    if isinstance(conversation, Failure):
        return _micro_failed(state, conversation), None
    return state, conversation


def micro_conversation(state: Zoomed, settings: Settings) -> Conversation | Failure:
    """The conversation that the micro answer continues."""
    return attempt(partial(_micro_conversation, state, settings), "second_pass_error")


def _micro_conversation(state: Zoomed, settings: Settings) -> Conversation:
    layout = SECOND_PASSES[settings.second_pass].conversation
    conversation = tuple(layout(state.question, state.zoom, settings.prompt_set))
    for message in conversation:
        _refuse_other(message, Message)
    return conversation


def _with_micro(state: Zoomed, result: Completion | Failure) -> Unzoomed | MicroOnly | Pair:
    if isinstance(result, Failure):
        return _micro_failed(state, result)
    if state.macro is None:
        return MicroOnly(state.question, result, state.grounding)
    return Pair(state.question, state.macro, result, state.grounding, state.zoom)


def _micro_failed(state: Zoomed, cause: Failure) -> Unzoomed:
    return Unzoomed(state.question, state.macro, state.grounding, Fallback.MICRO_FAILED, cause)


def macro_pass(
    states: Sequence[Failed | Unzoomed | MicroOnly | Pair], engine: Engine, settings: Settings
) -> list[Failed | MacroOnly | MicroOnly | Pair]:
    """Macro answers where none was asked for so far: with ``strategy=micro``, of the questions that fall back."""
    missing = [state.question for state in states if isinstance(state, Unzoomed) and state.macro is None]
    results = iter(call(engine.generate, [macro_request(question, settings) for question in missing]))
    return [
        _macro_only(state, state.macro or next(results)) if isinstance(state, Unzoomed) else state for state in states
    ]


def _macro_only(state: Unzoomed, macro: Completion | Failure) -> Failed | MacroOnly:
    if isinstance(macro, Failure):
        return Failed(state.question, macro, state.grounding, state.fallback, state.cause)
    return MacroOnly(state.question, macro, state.grounding, state.fallback, state.cause, state.skipped_micro)
