"""Settings that go with what the engine can do."""

from __future__ import annotations

from dataclasses import replace

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.selection import RULES
from dualfocus_eval.method.settings import Settings

__all__ = ["fitting_settings", "rules_without_scores"]


def rules_without_scores() -> tuple[str, ...]:
    """Names of the selection rules for which no text has to be scored."""
    return tuple(rule.name for rule in RULES if "micro_context_scores" not in rule.needs)


def fitting_settings(settings: Settings, engine: RunEngine) -> tuple[Settings, tuple[str, ...]]:
    """``settings`` without what the engine cannot do and the answers do not need, and what the user is to be told.

    Raises ``UserError`` where the answers need it.
    """
    problem = engine.two_pass_problem
    if problem is not None and settings.strategy != "macro":
        raise UserError(f"{problem}; with strategy=macro this is only warned of")
    if settings.strategy != "dualfocus":
        return settings, () if problem is None else (problem,)
    if not engine.has_logprobs:
        raise UserError(
            "the server returns no log-probabilities, so nothing can choose between two answers: pass strategy=macro "
            "or strategy=micro"
        )
    if engine.can_score:
        return settings, ()
    if "micro_context_scores" in RULES[settings.selection].needs:
        raise UserError(
            f"selection={settings.selection} scores given texts, which this server cannot do: choose another rule "
            f"({', '.join(rules_without_scores())})"
        )
    if not settings.score_all:
        return settings, ()
    return replace(settings, score_all=False), (
        "the server cannot score given texts: the traces will not tell what the other selection rules would pick",
    )
