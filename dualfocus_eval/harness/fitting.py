"""Settings that go with what the engine can do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import EngineBound
from dualfocus_eval.method.second_pass import SECOND_PASSES
from dualfocus_eval.method.selection import RULES, needs_of
from dualfocus_eval.method.settings import Settings

__all__ = ["fitting_settings", "refuse_likelihoods", "refuse_tasks_without_boxes", "rules_without_scores"]


def rules_without_scores() -> tuple[str, ...]:
    """Names of the selection rules for which no text has to be scored."""
    return tuple(rule.name for rule in RULES if "micro_context_scores" not in rule.needs)


def refuse_likelihoods(settings: Settings, engine: RunEngine) -> None:
    """Raise ``UserError`` where the strategy gives texts no likelihood, or the engine cannot compute one."""
    if settings.strategy == "dualfocus":
        raise UserError(
            "strategy=dualfocus chooses between two generated answers and gives a text no single likelihood; for this "
            "task pass --model_args strategy=macro or strategy=micro"
        )
    if engine.scoring_problem is not None:
        raise UserError(
            f"this task compares likelihoods, which cannot be computed: {engine.scoring_problem}; tasks that generate "
            "answers (output_type generate_until) need none"
        )


def refuse_tasks_without_boxes(
    settings: Settings, boxes: Mapping[str, str | None], columns: Mapping[str, Collection[str]] | None = None
) -> None:
    """Raise ``UserError`` where regions are to be the data set's and tasks have none.

    ``boxes`` has the column of each task's boxes, or None (`structure.Structure.box`); ``columns`` those that its
    documents have, as far as they are known.
    """
    if settings.grounding != "truth" or settings.strategy == "macro":
        return
    if without := sorted(task for task, column in boxes.items() if column is None):
        raise UserError(
            f"grounding=truth looks at the data set's own boxes, of which {', '.join(without)} names no column: leave "
            "it out, add the column to its YAML (metadata: {dualfocus: {box: COLUMN}}), or choose another grounding"
        )
    for task, known in sorted((columns or {}).items()):
        if known and boxes[task] not in known:
            raise UserError(
                f"grounding=truth looks at the data set's own boxes, and the documents of {task} have no column "
                f"{boxes[task]!r}: prepare the data set from a release with boxes (`dualfocus tasks` names the "
                "command), or choose another grounding"
            )


def fitting_settings(settings: Settings, engine: RunEngine) -> tuple[Settings, tuple[str, ...]]:
    """``settings`` without what the engine cannot do and the answers do not need, and what the user is to be told.

    Raises ``UserError`` where the answers need it.
    """
    _refuse_methods(settings, engine)
    problem = engine.two_pass_problem
    if problem is not None and settings.strategy != "macro":
        raise UserError(f"{problem}; with strategy=macro this is only warned of")
    if settings.max_thinking_tokens == 0 and not engine.can_skip_thinking:
        raise UserError(
            "max_thinking_tokens=0: this server cannot be made to answer without thinking, or it does not return the "
            "token ids that would show it; give the model some tokens to think"
        )
    if settings.strategy != "dualfocus":
        confidence = () if engine.has_logprobs else (_NO_CONFIDENCE,)
        return settings, (*confidence, *(() if problem is None else (problem,)))
    if not engine.has_logprobs:
        raise UserError(
            "the server returns no log-probabilities, so nothing can choose between two answers: pass strategy=macro "
            "or strategy=micro"
        )
    told = () if engine.has_end_token else (_NO_END_TOKEN,)
    unscored = engine.scoring_problem
    if unscored is None:
        return settings, told
    if "micro_context_scores" in needs_of(settings.selection):
        raise UserError(
            f"selection={settings.selection} cannot be used: {unscored}; rules that need no scores: "
            f"{', '.join(rules_without_scores())}"
        )
    if not settings.score_all:
        return settings, told
    told = (*told, f"{unscored}; the traces will not tell what the other selection rules would pick")
    return replace(settings, score_all=False), told


def _refuse_methods(settings: Settings, engine: RunEngine) -> None:
    """Raise ``UserError`` where this engine or model cannot do the grounding method or the second pass."""
    if settings.strategy == "macro":
        return
    chosen: dict[str, object] = {
        f"grounding={settings.grounding}": GROUNDING[settings.grounding],
        f"second_pass={settings.second_pass}": SECOND_PASSES[settings.second_pass],
    }
    for argument, method in chosen.items():
        problem = method.problem(engine, settings) if isinstance(method, EngineBound) else None
        if problem is not None:
            raise UserError(f"{argument}: {problem}")


_NO_CONFIDENCE = "the server returns no log-probabilities: neither traces nor reports tell how likely an answer is"
_NO_END_TOKEN = (
    "the server may not return the log-probability of the token that ends an answer: perplexities are then means over "
    "the other tokens, unlike those of other engines"
)
