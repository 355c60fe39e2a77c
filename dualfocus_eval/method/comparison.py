"""From two answers to a decision: the scores that the selection rules need, and what each rule picks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import repeat

from dualfocus_eval.engines.base import Engine, Failure, Score, ScoreRequest
from dualfocus_eval.method.calls import attempt, call
from dualfocus_eval.method.letters import named_option
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.selection import RULES, picks
from dualfocus_eval.method.selection.base import Candidates
from dualfocus_eval.method.selection.deciding import settled
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Decided, Pair
from dualfocus_eval.traces.record import ContextScores, Decision

__all__ = ["decide"]


def decide(pairs: Sequence[Pair], engine: Engine, settings: Settings) -> list[Decided]:
    """What every rule picks of each pair, in order. Pairs that need scores are scored in one call."""
    choices = [settled(pair.macro.text, pair.micro.text, pair.question) for pair in pairs]
    open_pairs = [pair for pair, choice in zip(pairs, choices, strict=True) if choice is None]
    scores: Iterable[ContextScores | Failure | None] = repeat(None)
    if settings.scores_candidates:
        scores = _scores(open_pairs, engine, settings)
    compared = map(_compared, open_pairs, scores)
    return [
        Decided(pair, dict.fromkeys(RULES.items, choice[0]), choice[1]) if choice else next(compared)
        for pair, choice in zip(pairs, choices, strict=True)
    ]


def _compared(pair: Pair, scores: ContextScores | Failure | None) -> Decided:
    """What every rule picks whose needs are known (Eq. 8)."""
    known = scores if isinstance(scores, ContextScores) else None
    candidates = Candidates(
        pair.macro, pair.micro, pair.grounding.response, known, pair.question.kind, pair.grounding.box
    )
    cause = scores if isinstance(scores, Failure) else None
    return Decided(pair, picks(candidates), Decision.NLL, known, cause)


def _scores(pairs: Sequence[Pair], engine: Engine, settings: Settings) -> list[ContextScores | Failure]:
    """Both candidates of each pair in micro context, in one call; it reuses the prefix up to the end of the crop."""
    prepared = [attempt(partial(_requests, pair, engine, settings)) for pair in pairs]
    requests = [request for pair in prepared if not isinstance(pair, Failure) for request in pair]
    results = iter(call(engine.score, requests))
    scored = ["option_text" if _scores_option_texts(pair.question, settings) else "answer" for pair in pairs]
    return [
        wanted if isinstance(wanted, Failure) else _context_scores(what, next(results), next(results))
        for what, wanted in zip(scored, prepared, strict=True)
    ]


def _requests(pair: Pair, engine: Engine, settings: Settings) -> tuple[ScoreRequest, ScoreRequest]:
    """For the macro and the micro candidate."""
    question = pair.question
    context = SECOND_PASSES[settings.second_pass].scoring_context(question, pair.zoom, settings.prompt_set)
    if not _scores_option_texts(question, settings):
        return ScoreRequest(context, pair.macro.token_ids), ScoreRequest(context, pair.micro.token_ids)
    macro, micro = (
        ScoreRequest(context, engine.continuation(context, _option_text(answer.text, question)))
        for answer in (pair.macro, pair.micro)
    )
    return macro, micro


def _option_text(answer: str, question: Question) -> str:
    """The text of the option that an answer names; of two answers left to be compared, both name one."""
    index = named_option(answer, question.options)
    if index is None:
        raise ValueError(f"{answer!r:.60} names no option")
    return question.options[index]


def _scores_option_texts(question: Question, settings: Settings) -> bool:
    return settings.option_scoring == "option_text" and question.kind is AnswerKind.OPTION and bool(question.options)


def _context_scores(scored: str, macro: Score | Failure, micro: Score | Failure) -> ContextScores | Failure:
    if isinstance(macro, Failure):
        return macro
    if isinstance(micro, Failure):
        return micro
    methods = (macro.method, micro.method) if macro.method and micro.method else None
    return ContextScores(scored, macro.logprobs, micro.logprobs, methods)
