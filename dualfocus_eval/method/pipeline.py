"""The two passes over an engine for a batch of questions (Eq. 5-8; the flow of one batch)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dualfocus_eval.engines.base import Engine, Failure, Score, ScoreRequest
from dualfocus_eval.method.conversations import macro_conversation, scoring_conversation
from dualfocus_eval.method.letters import named_option
from dualfocus_eval.method.passes import (
    Work,
    answering,
    attempt,
    call,
    check,
    first_pass,
    macro_pass,
    second_pass,
)
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.method.selection import RULES, picks, reselect
from dualfocus_eval.method.selection.base import Candidates
from dualfocus_eval.method.selection.deciding import settled
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.record import ContextScores, Cost, Decision, Fallback, ImageInfo, Trace
from dualfocus_eval.traces.store import TraceStore

__all__ = ["Fallback", "Likelihood", "answer", "loglikelihood"]


@dataclass(frozen=True)
class Likelihood:
    """How likely a given text is as the answer. ``fallback``: why it was scored in the macro pathway instead."""

    nll: float
    """Mean negative log-likelihood per token, end token included; lower is better."""
    greedy: bool
    """Whether greedy decoding would have produced it."""
    fallback: str | None = None


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
    it. ``settings_key`` (see `settings.settings_key`) is written into the traces; a store brings its own, and the
    arithmetic.
    """
    known = [store.get(question) if store else None for question in questions]
    works = [Work(question) for question, trace in zip(questions, known, strict=True) if trace is None]
    before = copy.deepcopy(engine.counters)
    _two_passes(works, engine, settings)
    cost: Cost | None = Cost.between(before, engine.counters, len(works))
    key = store.settings_key if store else settings_key
    arithmetic = store.arithmetic if store else {}
    computed = []
    for work in works:
        computed.append(reselect(_trace(work, key, arithmetic, cost), settings.selection))
        cost = None
    if store:
        for trace in computed:
            store.put(trace)
    remaining = iter(computed)
    return [reselect(trace, settings.selection) if trace else next(remaining) for trace in known]


def loglikelihood(
    targets: Sequence[tuple[Question, str]], engine: Engine, settings: Settings
) -> list[Likelihood | Failure]:
    """Score each given text as the answer to its question, in the macro or micro pathway (``settings.strategy``).

    A question is grounded once for all its texts. Raises ValueError for the strategy ``dualfocus``, which chooses
    between two generated answers and gives a text no single likelihood.
    """
    if settings.strategy == "dualfocus":
        raise ValueError("loglikelihood needs strategy=macro or strategy=micro: dualfocus has no single likelihood")
    works = {question: Work(question) for question, _ in targets}
    check(list(works.values()), settings)
    first_pass(list(works.values()), engine, settings, macro=False)
    requests = [_target(works[question], text, engine, settings) for question, text in targets]
    scores = iter(call(engine.score, [request for request in requests if isinstance(request, ScoreRequest)]))
    results: list[Likelihood | Failure] = []
    for (question, _), request in zip(targets, requests, strict=True):
        result = next(scores) if isinstance(request, ScoreRequest) else request
        if isinstance(result, Failure):
            results.append(result)
        else:
            results.append(Likelihood(result.nll, all(result.greedy), works[question].fallback))
    return results


def _target(work: Work, text: str, engine: Engine, settings: Settings) -> ScoreRequest | Failure:
    if work.error:
        return work.error
    context = answering(work, settings) if work.crop else macro_conversation(work.question)
    token_ids = attempt(partial(engine.continuation, context, text))
    return token_ids if isinstance(token_ids, Failure) else ScoreRequest(context, token_ids)


def _two_passes(works: Sequence[Work], engine: Engine, settings: Settings) -> None:
    check(works, settings)
    first_pass(works, engine, settings, macro=settings.strategy != "micro")
    second_pass(works, engine, settings)
    # Only strategy=micro leaves questions without any candidate here: those that fall back.
    macro_pass([work for work in works if not (work.macro or work.micro or work.error)], engine)
    undecided = []
    for work in works:
        _settle(work)
        if not work.decision and not work.error:
            undecided.append(work)
    if settings.scores_candidates:
        _score(undecided, engine, settings)
    for work in undecided:
        _compare(work)


def _settle(work: Work) -> None:
    """Choose where no scores are needed; every rule then picks the same."""
    if work.macro and work.micro:
        if choice := settled(work.macro.text, work.micro.text, work.question):
            work.selected, work.decision = choice
            work.picks = dict.fromkeys(RULES.items, work.selected)
    elif work.macro or work.micro:
        work.selected, work.decision = ("macro" if work.macro else "micro"), Decision.ONLY_CANDIDATE


def _score(works: Sequence[Work], engine: Engine, settings: Settings) -> None:
    """Both candidates in micro context, in one call; it reuses the prefix up to the end of the crop."""
    scored, requests = [], []
    for work in works:
        pair = attempt(partial(_candidates, work, engine, settings))
        if isinstance(pair, Failure):
            work.cause = pair
        else:
            scored.append(work)
            requests += pair
    results = iter(call(engine.score, requests))
    for work in scored:
        match next(results), next(results):
            case (Score() as macro, Score() as micro):
                kind = "option_text" if _scores_option_texts(work.question, settings) else "answer"
                work.scores = ContextScores(kind, macro.logprobs, micro.logprobs)
            case (Failure() as failure, _) | (_, Failure() as failure):
                work.cause = failure


def _scores_option_texts(question: Question, settings: Settings) -> bool:
    return settings.option_scoring == "option_text" and question.kind is AnswerKind.OPTION and bool(question.options)


def _candidates(work: Work, engine: Engine, settings: Settings) -> list[ScoreRequest]:
    """Requests for the macro and the micro candidate."""
    question = work.question
    assert work.grounding
    assert work.crop
    assert work.macro
    assert work.micro
    context = scoring_conversation(question, work.grounding.response, work.crop, settings.prompt_set)
    if not _scores_option_texts(question, settings):
        return [ScoreRequest(context, candidate.token_ids) for candidate in (work.macro, work.micro)]
    indices = [named_option(candidate.text, question.options) for candidate in (work.macro, work.micro)]
    texts = [question.options[index] for index in indices if index is not None]
    return [ScoreRequest(context, engine.continuation(context, text)) for text in texts]


def _compare(work: Work) -> None:
    """What every rule picks whose needs are known (Eq. 8)."""
    assert work.macro
    assert work.micro
    assert work.grounding
    work.picks = picks(Candidates(work.macro, work.micro, work.grounding.response, work.scores))
    work.decision = Decision.NLL


def _trace(work: Work, settings_key: str, arithmetic: Mapping[str, str], cost: Cost | None) -> Trace:
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
        arithmetic=arithmetic,
    )
