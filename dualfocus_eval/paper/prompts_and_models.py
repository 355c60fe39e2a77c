"""Perplexity between answers that are not of two passes: two prompts of one model, and two models (table 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dualfocus_eval.analysis.run_join import join_runs, macro_alone
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.paper.experiment import Request, Runs, RunSpec
from dualfocus_eval.paper.shared import TWO_PASSES
from dualfocus_eval.report.joined_runs import joined_tables
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.strategies import strategy_section

__all__ = ["ensemble_sections", "prompt_and_model_runs"]

SECOND_PROMPT = "Look at the whole image carefully and then answer the question."
"""The system prompt of the second prompt. The paper does not say its two."""
_OTHER_PROMPT = RunSpec("other_prompt", {"strategy": "macro"}, ("--system_instruction", SECOND_PROMPT))


def _of_other_model(spec: RunSpec) -> RunSpec:
    return replace(spec, name=f"other_model_{spec.name}", other_model=True)


def prompt_and_model_runs(request: Request) -> Sequence[RunSpec]:
    """Those of the second model only where one is named."""
    own = (TWO_PASSES, _OTHER_PROMPT)
    return (*own, *map(_of_other_model, own)) if request.other_model_args else own


def ensemble_sections(runs: Runs) -> Sequence[Section]:
    """Table 8: single answers joined by perplexity, beside the two passes of each model."""
    one, prompted = runs[TWO_PASSES.name], runs[_OTHER_PROMPT.name]
    sections = [_joined("prompts", "Two prompts of the model", macro_alone(one), prompted)]
    two = runs.get(_of_other_model(TWO_PASSES).name)
    if two is None:
        text = "Two models are joined if --other_model_args names a second one."
        return (*sections, _two_passes("two_passes", "Two passes of the model", one, text))
    other_prompted = runs[_of_other_model(_OTHER_PROMPT).name]
    return (
        *sections,
        _joined("other_prompts", "Two prompts of the second model", macro_alone(two), other_prompted),
        _joined("models", "The model (A) and the second model (B)", macro_alone(one), macro_alone(two)),
        _two_passes("two_passes", "Two passes of the model", one),
        _two_passes("other_two_passes", "Two passes of the second model", two),
    )


def _joined(name: str, title: str, first: Run, second: Run) -> Section:
    joined = join_runs(first, second)
    text = "Macro answers of two runs. The one with the lower perplexity is selected, as by `dualfocus join`."
    if joined.other_prompts:
        text += f" B has another system prompt: {SECOND_PROMPT}"
    tables = {f"{name}_{key}": table for key, table in joined_tables(joined).items()}
    return Section(name, title, text, {key: replace(one, title=f"{title}: {one.title}") for key, one in tables.items()})


def _two_passes(name: str, title: str, run: Run, remark: str = "") -> Section:
    found = strategy_section(run)
    table = found.tables["strategies"]
    return Section(name, title, f"{found.text} {remark}".strip(), {name: replace(table, title=f"{title} (%)")})
