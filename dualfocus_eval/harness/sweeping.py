"""Runs of one model that differ in where it looks and in what it is shown, one after the other in this process."""

from __future__ import annotations

import re
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
from dualfocus_eval.harness.task_index import tasks_indexed_once
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
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", self.name.replace(" + ", "-"))


_SWEPT = ("grounding", "second_pass", "strategy", "trace_dir")
MACRO = Variant("macro", {"strategy": "macro"})
"""The baseline of every sweep."""


def variants_of(grounding: Sequence[str], second_pass: Sequence[str]) -> list[Variant]:
    """Every grounding method with every second pass; what is given twice counts once.

    A method may have model arguments of its own: ``shifted:jitter=25``. Raises ``UserError`` for others.
    """
    pairs = product(dict.fromkeys(grounding), dict.fromkeys(second_pass))
    return [Variant(f"{one} + {two}", {**_arguments(one), "second_pass": two}) for one, two in pairs]


def _arguments(grounding: str) -> dict[str, str]:
    name, *options = grounding.split(":")
    own = [option.partition("=") for option in options]
    for option, equals, _ in own:
        if not equals or option in _SWEPT:
            raise UserError(
                f"--grounding: {grounding!r} is not NAME or NAME:ARGUMENT=VALUE with a model argument of the method, "
                "such as shifted:jitter=25"
            )
    return {"grounding": name} | {option: value for option, _, value in own}


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
    with tasks_indexed_once(), runs_together(list(sweep.others())) as together:
        for number, variant in enumerate([MACRO, *sweep.variants], 1):
            words = f"setting {number} of {len(sweep.variants) + 1}: {variant.name}"
            print(one_line(f"dualfocus sweep: {words}"), file=sys.stderr, flush=True)
            outcome = outcomes[variant.name] = run_lmms_eval(sweep.command(variant))
            if variant is MACRO and outcome.status > 1:
                if outcome.status == 2:
                    raise UserError("; ".join(outcome.remarks).removeprefix("error: "))
                break
        return outcomes, together.counters
