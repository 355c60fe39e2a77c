"""Every table and figure of the paper that is a measurement, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.paper.experiment import Experiment, Request, Runs, RunSpec, of_columns
from dualfocus_eval.paper.grounding import detector_runs, detector_sections, shift_sections, shifted_runs
from dualfocus_eval.paper.high_resolution import high_resolution_runs, high_resolution_sections
from dualfocus_eval.paper.prompts_and_models import ensemble_sections, prompt_and_model_runs
from dualfocus_eval.paper.shared import MACRO_ALONE, TWO_PASSES
from dualfocus_eval.paper.single_pass import cost_sections
from dualfocus_eval.paper.trainings import training_preparations, training_runs, training_sections
from dualfocus_eval.report.section import Section
from dualfocus_eval.report.sections.categories import category_section
from dualfocus_eval.report.sections.confidence import confidence_section
from dualfocus_eval.report.sections.published import main_section
from dualfocus_eval.report.sections.questions import question_section
from dualfocus_eval.report.sections.strategies import pope_section, strategy_section
from dualfocus_eval.report.sections.thresholds import threshold_section

__all__ = ["EXPERIMENTS"]

_FOUR = ("df_seed_img_mini", "df_mmbench_en_mini", "df_gqa_mcq_mini", "df_textvqa_mini")
_PAPER = (*_FOUR, "df_pope_mini")
"""What ``df_paper`` is among the full benchmarks."""


def _two_passes(request: Request) -> Sequence[RunSpec]:
    return (TWO_PASSES,)


def _from_one_run(name: str, title: str, section: Callable[[Run], Section], *columns: str) -> Experiment:
    """An experiment that the report of one run has as a section, of the tasks behind the paper's ``columns``."""

    def sections(runs: Runs) -> Sequence[Section]:
        run = runs[TWO_PASSES.name]
        return (section(of_columns(run, *columns) if columns else run),)

    return Experiment(name, title, _PAPER, _two_passes, sections)


_ALL = (
    _from_one_run("table1", "Comparison with baseline methods", lambda run: main_section(run, (1,))),
    _from_one_run("table2", "Comparison with other models", lambda run: main_section(run, (2,))),
    _from_one_run("table3", "Inference strategies", strategy_section, "SEED-IMG", "TextVQA"),
    _from_one_run("table4", "POPE", pope_section),
    Experiment("table5", "Shifted boxes", _FOUR, shifted_runs, shift_sections),
    Experiment("table6", "High-resolution models", _FOUR, high_resolution_runs, high_resolution_sections),
    Experiment("table7", "Time and cost", _PAPER, lambda _: (TWO_PASSES, MACRO_ALONE), cost_sections),
    Experiment("table8", "Other ways to two answers", _FOUR[1:2], prompt_and_model_runs, ensemble_sections),
    _from_one_run("table9", "Adaptive inference", threshold_section, "GQA*"),
    Experiment(
        "table10",
        "Training with and without Visual Genome",
        _FOUR[:2],
        training_runs,
        training_sections,
        training_preparations,
    ),
    Experiment("table11", "Regions of a detector", _FOUR[:2], detector_runs, detector_sections),
    _from_one_run("figure3", "Perplexities of both pathways", confidence_section, "SEED-IMG"),
    _from_one_run("figure4", "Categories of SEED-Bench", category_section, "SEED-IMG"),
    _from_one_run("figure5", "Examples", question_section),
)
EXPERIMENTS: Mapping[str, Experiment] = {experiment.name: experiment for experiment in _ALL}
