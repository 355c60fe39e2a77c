"""Runs of one model that differ in where it looks and in what it is shown, one after the other in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.harness.lmms_eval_command import Outcome, run_lmms_eval
from dualfocus_eval.harness.together import runs_together

__all__ = ["MACRO", "Sweep", "Variant", "run_sweep", "variants_of"]


@dataclass(frozen=True)
class Variant:
    """One setting of a sweep: the model arguments that it adds to those of all."""

    name: str
    """As tables show it."""
    arguments: Mapping[str, str]

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return self.name.replace(" + ", "-")


MACRO = Variant("macro", {"strategy": "macro"})
"""The baseline of every sweep."""


def variants_of(grounding: Sequence[str], second_pass: Sequence[str]) -> list[Variant]:
    """Every grounding method with every second pass; a name that is given twice counts once."""
    pairs = product(dict.fromkeys(grounding), dict.fromkeys(second_pass))
    return [Variant(f"{one} + {two}", {"grounding": one, "second_pass": two}) for one, two in pairs]


@dataclass(frozen=True)
class Sweep:
    """What is to be run: lmms-eval's arguments and model arguments of all, and the settings."""

    lmms_eval: Sequence[str]
    model_args: str
    strategy: str | None
    """The user's; None where it is left to recipe and checkpoint."""
    variants: Sequence[Variant]
    out: Path

    def folder(self, variant: Variant) -> Path:
        """Where the results, samples and traces of a setting are: an ``--output_path`` like any other."""
        return self.out / "runs" / variant.folder

    def command(self, variant: Variant) -> list[str]:
        """The arguments of lmms-eval's command line for one setting."""
        own = [f"{name}={value}" for name, value in variant.arguments.items()]
        model_args = ",".join(filter(None, [self.model_args, *own]))
        place = ["--output_path", str(self.folder(variant)), "--log_samples"]
        return ["--model", "dualfocus", "--model_args", model_args, *self.lmms_eval, *place]

    def others(self) -> Iterator[Mapping[str, Any]]:
        """What the model arguments of each setting have that the baseline's have not."""
        for variant in self.variants:
            place = {"trace_dir": f"{self.folder(variant)}/traces", "strategy": self.strategy}
            yield place | dict(variant.arguments)


def run_sweep(sweep: Sweep) -> tuple[dict[str, Outcome], Counters]:
    """Run the baseline and every setting; how each ended, by name, and the work that was done.

    The baseline's run answers each batch for every setting, while the states of its images are at hand; their own runs
    then find their answers and score them. What is stored already is not computed again. Raises ``UserError`` where the
    baseline cannot be run: nothing else could.
    """
    outcomes: dict[str, Outcome] = {}
    with runs_together(list(sweep.others())) as together:
        for number, variant in enumerate([MACRO, *sweep.variants], 1):
            words = f"setting {number} of {len(sweep.variants) + 1}: {variant.name}"
            print(one_line(f"dualfocus sweep: {words}"), file=sys.stderr, flush=True)
            outcome = outcomes[variant.name] = run_lmms_eval(sweep.command(variant))
            if variant is MACRO and outcome.status > 1:
                if outcome.status == 2:
                    raise UserError("; ".join(outcome.remarks).removeprefix("error: "))
                break
        return outcomes, together.counters
