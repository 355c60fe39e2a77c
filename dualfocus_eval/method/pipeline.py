"""The two passes over an engine for a batch of questions (Eq. 5-8; the flow of one batch)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dualfocus_eval.engines.base import Engine, Failure, ScoreRequest
from dualfocus_eval.method.calls import attempt, call
from dualfocus_eval.method.comparison import decide
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.passes import check, first_pass, macro_pass, micro_conversation, second_pass
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.selection import reselect
from dualfocus_eval.method.selection.base import SelectionRule
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Decided, Failed, MacroOnly, MicroOnly, Outcome, Pair, Unzoomed, Zoomed
from dualfocus_eval.traces.record import Cost, Decision, ImageInfo, Trace
from dualfocus_eval.traces.store import TraceStore

__all__ = ["Likelihood", "answer", "loglikelihood"]


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
    fitted: SelectionRule | None = None,
) -> list[Trace]:
    """Answer one batch; traces in the order of ``questions``. No question's failure ends the batch or raises.

    With a ``store``, a question that it holds an answer to is not computed again, and every new trace is appended to
    it. ``settings_key`` (see `settings.settings_key`) is written into the traces; a store brings its own, and the
    arithmetic. ``fitted`` is the calibrated choice that ``settings.selection`` names, if it does.
    """
    known = [store.get(question) if store else None for question in questions]
    unknown = [question for question, trace in zip(questions, known, strict=True) if trace is None]
    before = copy.deepcopy(engine.counters)
    outcomes = _two_passes(unknown, engine, settings)
    cost = Cost.between(before, engine.counters, len(unknown))
    key = store.settings_key if store else settings_key
    arithmetic = store.arithmetic if store else {}
    decided = partial(reselect, rule=settings.selection, fitted=fitted)
    computed = [
        decided(_trace(outcome, settings, key, arithmetic, None if place else cost))
        for place, outcome in enumerate(outcomes)
    ]
    if store:
        for trace in computed:
            store.put(trace)
    remaining = iter(computed)
    return [decided(trace) if trace else next(remaining) for trace in known]


def loglikelihood(
    targets: Sequence[tuple[Question, str]], engine: Engine, settings: Settings
) -> list[Likelihood | Failure]:
    """Score each given text as the answer to its question, in the macro or micro pathway (``settings.strategy``).

    A question is grounded once for all its texts. Raises ValueError for the strategy ``dualfocus``, which chooses
    between two generated answers and gives a text no single likelihood.
    """
    if settings.strategy == "dualfocus":
        raise ValueError("loglikelihood needs strategy=macro or strategy=micro: dualfocus has no single likelihood")
    distinct = list(dict.fromkeys(question for question, _ in targets))
    states = first_pass([check(question, settings) for question in distinct], engine, settings, macro=False)
    state_of = dict(zip(distinct, states, strict=True))
    requests = [_target(state_of[question], text, engine, settings) for question, text in targets]
    scores = iter(call(engine.score, [request for request in requests if isinstance(request, ScoreRequest)]))
    results: list[Likelihood | Failure] = []
    for (question, _), request in zip(targets, requests, strict=True):
        result = next(scores) if isinstance(request, ScoreRequest) else request
        if isinstance(result, Failure):
            results.append(result)
        else:
            state = state_of[question]
            fallback = state.fallback if isinstance(state, Unzoomed) else None
            results.append(Likelihood(result.nll, all(result.greedy), fallback))
    return results


def _target(state: Failed | Unzoomed | Zoomed, text: str, engine: Engine, settings: Settings) -> ScoreRequest | Failure:
    if isinstance(state, Failed):
        return state.error
    context = micro_conversation(state, settings) if isinstance(state, Zoomed) else macro_conversation(state.question)
    if isinstance(context, Failure):
        return context
    token_ids = attempt(partial(engine.continuation, context, text))
    return token_ids if isinstance(token_ids, Failure) else ScoreRequest(context, token_ids)


def _two_passes(questions: Sequence[Question], engine: Engine, settings: Settings) -> list[Outcome]:
    checked = [check(question, settings) for question in questions]
    looked = first_pass(checked, engine, settings, macro=settings.strategy != "micro")
    answered = macro_pass(second_pass(looked, engine, settings), engine, settings)
    decided = iter(decide([state for state in answered if isinstance(state, Pair)], engine, settings))
    return [next(decided) if isinstance(state, Pair) else state for state in answered]


def _trace(
    outcome: Outcome, settings: Settings, settings_key: str, arithmetic: Mapping[str, str], cost: Cost | None
) -> Trace:
    """The record of a question; of two answers none is selected yet."""
    question = outcome.question
    trace = Trace(
        key=question.key,
        question_digest=question.digest,
        settings_key=settings_key,
        kind=question.kind,
        images=tuple(ImageInfo.of(picture) for picture in question.images),
        cost=cost,
        arithmetic=arithmetic,
    )
    match outcome:
        case Failed(_, error, grounding, fallback, cause):
            return replace(trace, error=error, grounding=grounding, fallback=fallback, cause=cause)
        case MacroOnly(_, macro, grounding, fallback, cause, skipped_micro):
            return replace(
                trace,
                macro=macro,
                grounding=grounding,
                selected="macro",
                decision=Decision.ONLY_CANDIDATE,
                skipped_micro=skipped_micro,
                fallback=fallback,
                cause=cause,
            )
        case MicroOnly(_, micro, grounding):
            return replace(
                trace,
                micro=micro,
                grounding=grounding,
                second_pass=settings.second_pass,
                selected="micro",
                decision=Decision.ONLY_CANDIDATE,
            )
        case Decided(pair, picks, decision, scores, cause):
            return replace(
                trace,
                macro=pair.macro,
                micro=pair.micro,
                grounding=pair.grounding,
                second_pass=settings.second_pass,
                scores=scores,
                picks=picks,
                decision=decision,
                cause=cause,
            )
