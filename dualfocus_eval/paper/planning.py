"""The command lines of an experiment's runs, and which of them have been carried out already."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from dualfocus_eval.analysis.reading import read_run
from dualfocus_eval.analysis.runs import Run
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.environment import packages
from dualfocus_eval.engines.identity import checkpoint_name, engine_digest
from dualfocus_eval.harness.arguments import resolve
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import OwnModel
from dualfocus_eval.paper.experiment import Experiment, Request, RunSpec

__all__ = ["PlannedRun", "finished_run", "plan_runs"]

_RUNS, _TRACES = "runs", "traces"


@dataclass(frozen=True)
class PlannedRun:
    """One run, complete."""

    name: str
    folder: Path
    """Its ``--output_path``, named by what the command line says, so that equal runs are one."""
    arguments: tuple[str, ...]
    """Those of ``dualfocus eval``."""
    model_args: str
    trained: bool
    """Whether its checkpoint is there."""

    @property
    def command(self) -> str:
        """As it can be pasted into a shell."""
        return shlex.join(["dualfocus", "eval", *self.arguments])


def plan_runs(experiment: Experiment, request: Request) -> list[PlannedRun]:
    """The runs of ``experiment``. Raises ``UserError`` where the request contradicts what it needs, or lacks it."""
    if "," in str(request.out):
        raise UserError(f"--out {request.out}: a comma would end a model argument; choose another folder")
    return [_planned(experiment, spec, request) for spec in experiment.runs(request)]


def _planned(experiment: Experiment, spec: RunSpec, request: Request) -> PlannedRun:
    flag = "--other_model_args" if spec.other_model else "--model_args"
    given = request.other_model_args if spec.other_model else request.model_args
    fixed = dict(spec.settings) if spec.own_traces else {**spec.settings, "trace_dir": str(request.out / _TRACES)}
    for name in fixed:
        if _argument(name).search(given):
            raise UserError(f"{flag}: {experiment.name} sets {name} itself; leave it out")
    if spec.recipe:
        given = _argument("recipe").sub("", given).strip(",")
        fixed = {"recipe": spec.recipe, **fixed}
    model_args = ",".join(filter(None, [given, *(f"{name}={value}" for name, value in fixed.items())]))
    limit = ["--limit", str(request.limit)] if request.limit is not None else []
    asked = ["--tasks", request.tasks or ",".join(experiment.tasks), "--model_args", model_args]
    asked += ["--batch_size", str(request.batch_size), *limit, *spec.flags]
    digest = hashlib.blake2b(shlex.join(asked).encode(), digest_size=4).hexdigest()
    folder = request.out / _RUNS / f"{spec.name}-{digest}"
    return PlannedRun(
        spec.name, folder, (*asked, "--output_path", str(folder), "--log_samples"), model_args, spec.trained
    )


def _argument(name: str) -> re.Pattern[str]:
    """A model argument of that name with its value."""
    return re.compile(rf"(?:^|(?<=,))\s*{name}\s*=[^,]*,?")


def finished_run(plan: PlannedRun) -> Run | None:
    """The run, if it has been carried out completely with this checkpoint, these settings and these versions of
    packages; else None.

    What a server serves, and what a detector's files are, shows only when they are used: such runs are made again, from
    stored answers.
    """
    try:
        run = read_run(plan.folder)
    except UserError:
        return None
    if run.record is None or run.lost or run.failures:
        return None
    current = run.record.get("environment", {}).get("packages") == packages()
    return run if current and _made_so(run, plan.model_args) else None


def _made_so(run: Run, model_args: str) -> bool:
    """Whether the run is of what these model arguments stand for now: a recipe's settings change, and checkpoints do.

    False where that is not known beforehand.
    """
    from lmms_eval.utils import simple_parse_args_string

    arguments = simple_parse_args_string(model_args)
    if run.record is None or arguments.get("engine") == "server":  # resolving its arguments would ask it
        return False
    try:
        config = resolve(arguments)
        if isinstance(GROUNDING[config.settings.grounding], OwnModel) or not isinstance(config.engine, EngineConfig):
            return False
        checkpoint = f"{checkpoint_name(config.engine)}-{engine_digest(config.engine)}"
    except UserError:  # a repository of the hub that has not been downloaded
        return False
    return run.record.get("checkpoint") == checkpoint and dict(run.settings) == asdict(config.settings)
