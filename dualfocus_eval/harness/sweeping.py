"""Runs of one model that differ in where it looks and in what it is shown, one after the other in this process."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.harness.arguments import ARGUMENTS
from dualfocus_eval.harness.lmms_eval_command import Outcome, run_lmms_eval
from dualfocus_eval.harness.structure import read_structure
from dualfocus_eval.harness.task_index import tasks_indexed_once
from dualfocus_eval.harness.together import runs_together
from dualfocus_eval.method.grounding.controls import TRUTH
from dualfocus_eval.method.settings import Settings

__all__ = ["MACRO", "Sweep", "Variant", "run_sweep", "variants_of"]


@dataclass(frozen=True)
class Variant:
    """One setting of a sweep: the model arguments that it adds to those of all."""

    name: str
    """As tables show it."""
    arguments: Mapping[str, str]

    @property
    def needs_boxes(self) -> bool:
        """Whether it looks at the data set's boxes."""
        return self.arguments.get("grounding") == TRUTH.name

    @property
    def folder(self) -> str:
        """The name of its folder, which no other setting has."""
        plain = self.name.replace(" + ", "-")
        found = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain)
        if re.fullmatch(r"[A-Za-z0-9_.:=-]+", plain):
            return found
        return f"{found}-{hashlib.blake2b(plain.encode(), digest_size=4).hexdigest()}"


_OF_METHOD = {one.name for one in fields(Settings)} - {"grounding", "second_pass", "strategy", "max_thinking_tokens"}
"""What may differ between settings; the rest concerns the model and the macro answers, which are the same for all."""
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
        if not equals or (option in ARGUMENTS and option not in _OF_METHOD):
            raise UserError(
                f"--grounding: {grounding!r} is not NAME or NAME:ARGUMENT=VALUE with a model argument that concerns "
                "the second look, such as shifted:jitter=25; those of all settings go to --model_args"
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

    def command(self, variant: Variant, tasks: Sequence[str] = ()) -> list[str]:
        """The arguments of lmms-eval's command line for one setting; ``tasks`` in the place of those of all."""
        own = [f"{name}={value}" for name, value in variant.arguments.items()]
        model_args = ",".join(filter(None, [self.model_args, *own]))
        place = ["--output_path", str(self.folder(variant)), "--log_samples"]
        asked = [*self.lmms_eval, *(["--tasks", ",".join(tasks)] if tasks else [])]
        return ["--model", "dualfocus", "--model_args", model_args, *asked, *place]

    def others(self) -> Iterator[Mapping[str, Any]]:
        """What the model arguments of each setting have that the baseline's have not."""
        for variant in self.variants:
            place = {"trace_dir": f"{self.folder(variant)}/traces", "strategy": self.strategy}
            yield place | dict(variant.arguments)


def run_sweep(sweep: Sweep) -> tuple[dict[str, Outcome], Counters]:
    """Run the baseline and every setting; how each ended, by name, and the work that was done.

    The baseline's run answers each batch for every setting, while the states of its images are at hand; their own runs
    then find their answers and score them. What is stored already is not computed again. A setting that looks at the
    data set's boxes leaves out the tasks without; a remark says so. Raises ``UserError`` where the baseline cannot be
    run: nothing else could.
    """
    outcomes: dict[str, Outcome] = {}
    with tasks_indexed_once(), runs_together(list(sweep.others())) as together:
        for number, variant in enumerate([MACRO, *sweep.variants], 1):
            words = f"setting {number} of {len(sweep.variants) + 1}: {variant.name}"
            print(one_line(f"dualfocus sweep: {words}"), file=sys.stderr, flush=True)
            tasks, remarks = _with_boxes(outcomes[MACRO.name].configs) if variant.needs_boxes else ((), ())
            outcome = run_lmms_eval(sweep.command(variant, tasks))
            outcomes[variant.name] = replace(outcome, remarks=(*outcome.remarks, *remarks))
            if variant is MACRO and outcome.status > 1:
                if outcome.status == 2:
                    raise UserError("; ".join(outcome.remarks).removeprefix("error: "))
                break
        return outcomes, together.counters


def _with_boxes(configs: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of the tasks whose YAML names a column with the data set's boxes, and a remark on the others.

    Nothing where all do, or none: the run itself then says so.
    """
    columns = {name: read_structure(config.get("metadata"), name).box for name, config in configs.items()}
    boxed = tuple(name for name, column in columns.items() if column)
    without = [name for name, column in columns.items() if not column]
    if not boxed or not without:
        return (), ()
    return boxed, (f"{', '.join(without)} left out, of which no column of boxes is known",)
