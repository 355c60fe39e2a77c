"""The two passes over an engine for a batch of questions (Eq. 5-8; the flow of one batch)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from dualfocus_eval.engines.base import (
    Completion,
    Conversation,
    Engine,
    Failure,
    GenerateRequest,
    Picture,
    ScoreRequest,
)
from dualfocus_eval.method.boxes import CONVENTIONS, parse_box
from dualfocus_eval.method.conversations import (
    grounding_conversation,
    macro_conversation,
    micro_conversation,
    scoring_conversation,
)
from dualfocus_eval.method.crops import crop_of, crop_picture, shifted
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.method.selection import (
    RULES,
    Decision,
    Pathway,
    Rule,
    is_confident,
    option_index,
    picks,
    settled,
)
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.store import TraceStore
from dualfocus_eval.method.trace import ContextScores, Cost, Grounding, ImageInfo, Trace

__all__ = ["Fallback", "Likelihood", "answer", "loglikelihood"]

_log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Likelihood:
    """How likely a given text is as the answer. ``fallback``: why it was scored in the macro pathway instead."""

    nll: float
    """Mean negative log-likelihood per token, end token included; lower is better."""
    greedy: bool
    """Whether greedy decoding would have produced it."""
    fallback: str | None = None


@dataclass
class _Work:
    """A question on its way through the passes."""

    question: Question
    macro: Completion | None = None
    micro: Completion | None = None
    grounding: Grounding | None = None
    crop: Picture | None = None
    scores: ContextScores | None = None
    picks: dict[Rule, Pathway] = field(default_factory=dict)
    selected: Pathway | None = None
    decision: Decision | None = None
    skipped_micro: bool = False
    fallback: str | None = None
    cause: Failure | None = None
    error: Failure | None = None

    def fall_back(self, reason: str, cause: Failure | None = None) -> None:
        self.fallback, self.cause, self.crop = reason, cause, None


def answer(
    questions: Sequence[Question],
    engine: Engine,
    settings: Settings,
    *,
    settings_key: str = "",
    store: TraceStore | None = None,
) -> list[Trace]:
    """Answer one batch; traces in the order of ``questions``. No question's failure ends the batch or raises.

    With a ``store``, a question that it holds an answer to is not computed again, and every new trace is appended to
    it. ``settings_key`` (see `settings.settings_key`) is written into the traces; a store brings its own.
    """
    known = {index: trace for index, question in enumerate(questions) if store and (trace := store.get(question))}
    works = [_Work(question) for index, question in enumerate(questions) if index not in known]
    before = copy.deepcopy(engine.counters)
    _two_passes(works, engine, settings)
    cost: Cost | None = Cost.between(before, engine.counters, len(works))
    key = store.settings_key if store else settings_key
    fresh = []
    for work in works:
        fresh.append(_trace(work, key, cost))
        cost = None
    if store:
        for trace in fresh:
            store.put(trace)
    computed = iter(fresh)
    return [
        known[index].reselected(settings.selection) if index in known else next(computed)
        for index in range(len(questions))
    ]


def loglikelihood(
    targets: Sequence[tuple[Question, str]], engine: Engine, settings: Settings
) -> list[Likelihood | Failure]:
    """Score each given text as the answer to its question, in the macro or micro pathway (``settings.strategy``).

    A question is grounded once for all its texts. Raises ValueError for the strategy ``dualfocus``, which chooses
    between two generated answers and gives a text no single likelihood.
    """
    if settings.strategy == "dualfocus":
        raise ValueError("loglikelihood needs strategy=macro or strategy=micro: dualfocus has no single likelihood")
    works = {question: _Work(question) for question, _ in targets}
    _check(list(works.values()), settings)
    _first_pass(list(works.values()), engine, settings, macro=False)
    results: list[Likelihood | Failure | None] = []
    requests = []
    for question, text in targets:
        work = works[question]
        if work.error:
            results.append(work.error)
            continue
        context = _answering(work, settings) if work.crop else macro_conversation(question)
        ids = _attempt(lambda context=context, text=text: engine.continuation(context, text))  # type: ignore[misc]
        if isinstance(ids, Failure):
            results.append(ids)
        else:
            results.append(None)
            requests.append(ScoreRequest(context, ids))
    scores = iter(_call(engine.score, requests))
    for index, (question, _) in enumerate(targets):
        if results[index] is None:
            score = next(scores)
            results[index] = (
                score
                if isinstance(score, Failure)
                else Likelihood(score.nll, all(score.greedy), works[question].fallback)
            )
    return [result for result in results if result is not None]


def _two_passes(works: Sequence[_Work], engine: Engine, settings: Settings) -> None:
    _check(works, settings)
    _first_pass(works, engine, settings, macro=settings.strategy != "micro")
    _second_pass(works, engine, settings)
    # Only strategy=micro leaves questions without any candidate here: those that fall back.
    _macro_pass([work for work in works if not (work.macro or work.micro or work.error)], engine)
    undecided = []
    for work in works:
        _settle(work)
        if not work.decision and not work.error:
            undecided.append(work)
    if settings.scores_candidates:
        _score(undecided, engine, settings)
    for work in undecided:
        _decide(work, settings)


def _check(works: Sequence[_Work], settings: Settings) -> None:
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


def _first_pass(works: Sequence[_Work], engine: Engine, settings: Settings, *, macro: bool) -> None:
    """Macro answers and boxes of all questions in one call, so that both share the encoded image (Eq. 2 and 5)."""
    answered = [work for work in works if macro and not work.error]
    grounded = [work for work in works if settings.strategy != "macro" and not (work.error or work.fallback)]
    requests = [_macro_request(work.question) for work in answered]
    requests += [
        GenerateRequest(grounding_conversation(work.question, settings.wording), settings.max_box_tokens)
        for work in grounded
    ]
    results = iter(_call(engine.generate, requests))
    for work in answered:
        _take_macro(work, next(results))
    for work in grounded:
        a1 = next(results)
        if isinstance(a1, Failure):
            work.fall_back(Fallback.GROUNDING_FAILED, a1)
        else:
            _zoom(work, a1, engine, settings)


def _macro_pass(works: Sequence[_Work], engine: Engine) -> None:
    results = _call(engine.generate, [_macro_request(work.question) for work in works])
    for work, result in zip(works, results, strict=True):
        _take_macro(work, result)


def _macro_request(question: Question) -> GenerateRequest:
    return GenerateRequest(macro_conversation(question), question.max_new_tokens, question.stop)


def _take_macro(work: _Work, result: Completion | Failure) -> None:
    if isinstance(result, Failure):
        work.error = result
    else:
        work.macro = result


def _zoom(work: _Work, a1: Completion, engine: Engine, settings: Settings) -> None:
    """Read the box in A1 and cut its crop from the original image."""
    (picture,) = work.question.images
    size = picture.pixels.size
    in_pixels = CONVENTIONS[settings.box_convention].scale is None
    encoded = _attempt(lambda: engine.encoded_size(picture)) if in_pixels else None
    if isinstance(encoded, Failure):
        work.fall_back(Fallback.GROUNDING_FAILED, encoded)
        return
    parsed = parse_box(
        a1.text, settings.box_convention, image_size=size, encoded_size=encoded, frame=settings.box_frame
    )
    work.grounding = Grounding(a1, parsed.outcome, parsed.box)
    if parsed.box is None:
        work.fall_back(parsed.outcome)
        return
    seed = f"{settings.jitter_seed}/{work.question.key}"
    box = shifted(parsed.box, size, settings.jitter, seed) if settings.jitter else parsed.box
    crop = crop_of(box, size, rule=settings.crop, margin=settings.margin)
    if crop is None:
        work.fall_back(Fallback.CROP_TOO_SMALL)
        return
    work.grounding = Grounding(a1, parsed.outcome, parsed.box, crop)
    work.crop = crop_picture(picture, crop)


def _second_pass(works: Sequence[_Work], engine: Engine, settings: Settings) -> None:
    """Micro answers (Eq. 6) of all questions that have a crop and are not confident already (appendix C)."""
    for work in works:
        if work.macro and is_confident(work.macro, settings.adaptive_nll):
            work.skipped_micro, work.fallback, work.cause, work.crop = True, None, None, None
    zoomed = [work for work in works if work.crop and not work.error]
    requests = [
        GenerateRequest(_answering(work, settings), work.question.max_new_tokens, work.question.stop) for work in zoomed
    ]
    for work, result in zip(zoomed, _call(engine.generate, requests), strict=True):
        if isinstance(result, Failure):
            work.fall_back(Fallback.MICRO_FAILED, result)
        else:
            work.micro = result


def _answering(work: _Work, settings: Settings) -> Conversation:
    assert work.grounding
    assert work.crop
    return micro_conversation(work.question, work.grounding.a1, work.crop, settings.wording)


def _settle(work: _Work) -> None:
    """Choose where no scores are needed; every rule then picks the same."""
    if work.macro and work.micro:
        if choice := settled(work.macro.text, work.micro.text, work.question):
            work.selected, work.decision = choice
            work.picks = dict.fromkeys(RULES, work.selected)
    elif work.macro or work.micro:
        work.selected, work.decision = ("macro" if work.macro else "micro"), Decision.ONLY_CANDIDATE


def _score(works: Sequence[_Work], engine: Engine, settings: Settings) -> None:
    """Both candidates in micro context, in one call; it reuses the prefix up to the end of the crop."""
    scored, requests = [], []
    for work in works:
        pair = _attempt(lambda work=work: _continuations(work, engine, settings))  # type: ignore[misc]
        if isinstance(pair, Failure):
            work.cause = pair
        else:
            scored.append(work)
            requests += pair
    results = iter(_call(engine.score, requests))
    for work in scored:
        macro, micro = next(results), next(results)
        if isinstance(macro, Failure) or isinstance(micro, Failure):
            work.cause = macro if isinstance(macro, Failure) else micro  # type: ignore[assignment]
        else:
            kind = "option_text" if _scores_option_texts(work.question, settings) else "answer"
            work.scores = ContextScores(kind, macro.logprobs, micro.logprobs)


def _scores_option_texts(question: Question, settings: Settings) -> bool:
    return settings.option_scoring == "option_text" and question.kind is AnswerKind.OPTION and bool(question.options)


def _continuations(work: _Work, engine: Engine, settings: Settings) -> list[ScoreRequest]:
    """Requests for the macro and the micro candidate."""
    question = work.question
    assert work.grounding
    assert work.crop
    assert work.macro
    assert work.micro
    context = scoring_conversation(question, work.grounding.a1, work.crop, settings.wording)
    if not _scores_option_texts(question, settings):
        return [ScoreRequest(context, candidate.token_ids) for candidate in (work.macro, work.micro)]
    indices = [option_index(candidate.text, len(question.options)) for candidate in (work.macro, work.micro)]
    texts = [question.options[index] for index in indices if index is not None]
    return [ScoreRequest(context, engine.continuation(context, text)) for text in texts]


def _decide(work: _Work, settings: Settings) -> None:
    """Pick by every rule that has its scores, and select by the deciding one."""
    assert work.macro
    assert work.micro
    assert work.grounding
    in_micro_context = (work.scores.macro, work.scores.micro) if work.scores else None
    work.picks = picks(work.macro, work.micro, work.grounding.a1, in_micro_context)
    if settings.selection in work.picks:
        work.selected, work.decision = work.picks[settings.selection], Decision.NLL
    else:
        work.selected, work.decision, work.fallback = "macro", Decision.NO_SCORES, Fallback.SCORING_FAILED


def _trace(work: _Work, settings_key: str, cost: Cost | None) -> Trace:
    question = work.question
    return Trace(
        key=question.key,
        question_digest=question.digest,
        settings_key=settings_key,
        kind=question.kind,
        images=tuple(ImageInfo.of(picture) for picture in question.images),
        macro=work.macro,
        micro=work.micro,
        grounding=work.grounding,
        scores=work.scores,
        picks=work.picks,
        selected=None if work.error else work.selected,
        decision=None if work.error else work.decision,
        skipped_micro=work.skipped_micro,
        fallback=work.fallback,
        cause=work.cause,
        error=work.error,
        cost=cost,
    )


RequestT = TypeVar("RequestT", bound=Hashable)
ResultT = TypeVar("ResultT")


def _call(
    run: Callable[[Sequence[RequestT]], list[ResultT | Failure]], requests: Sequence[RequestT]
) -> list[ResultT | Failure]:
    """Results of all requests. Equal requests are sent once; what an engine raises costs only the request at fault."""
    distinct = list(dict.fromkeys(requests))
    if not distinct:
        return []
    results = _attempt(lambda: run(distinct))
    if isinstance(results, Failure):
        alone = [_attempt(lambda request=request: run([request])) for request in distinct]  # type: ignore[misc]
        results = [result if isinstance(result, Failure) else result[0] for result in alone]
    by_request = dict(zip(distinct, results, strict=True))
    return [by_request[request] for request in requests]


def _attempt(compute: Callable[[], ResultT]) -> ResultT | Failure:
    try:
        return compute()
    except Exception as error:
        _log.exception("the engine raised instead of returning a failure")
        return Failure("engine_error", f"{type(error).__name__}: {error}")
