"""What each of lmms-eval's command-line arguments does with ``--model dualfocus``.

A run goes by these verdicts: a refused flag ends it, one without effect is warned of in log, summary and results.
docs/lmms-eval-arguments.md is made of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dualfocus_eval.common.errors import UserError

__all__ = ["FLAGS", "refuse_flags", "without_effect"]

Effect = Literal["works", "refused", "no effect"]


@dataclass(frozen=True)
class Flag:
    """The verdict on one argument."""

    effect: Effect
    note: str
    """What it does, why it is refused, or why it has no effect and what has."""
    idle: tuple[Any, ...] = (None, False)
    """Values that ask for nothing; lmms-eval's default is one of them where the effect is not ``works``."""


def _works(note: str) -> Flag:
    return Flag("works", note)


def _refused(note: str, *idle: Any) -> Flag:
    return Flag("refused", note, (None, False, *idle))


def _no_effect(note: str, *idle: Any) -> Flag:
    return Flag("no effect", note, (None, False, *idle))


_POWER = _works("plans the size of a benchmark and ends before a model is loaded")
_LOGGED = _works("a feature of lmms-eval; needs its package and an account")

FLAGS: Mapping[str, Flag] = {
    "config": _works("a YAML file of these arguments, or a list of several runs"),
    "model": _works("`dualfocus`; the default of `dualfocus eval`"),
    "tasks": _works("names of tasks and groups; `dualfocus tasks` lists this package's, `lmms-eval --tasks list` all"),
    "model_args": _works("checked by name, type and value; docs/arguments.md lists them"),
    "launcher_args": _works("starts a server for a judge; the model is not affected"),
    "num_fewshot": _refused("examples would not be shown: lmms-eval passes questions about images without them"),
    "fewshot_as_multiturn": _refused("examples would not be shown: lmms-eval passes questions without them"),
    "batch_size": _works(
        "questions answered together; `auto` is refused, pass a number. With `engine=server` it has no effect"
    ),
    "max_batch_size": _no_effect("a batch that does not fit into memory is halved automatically"),
    "device": _works("like the model argument `device`, which takes precedence"),
    "output_path": _works("results and samples; with `dualfocus eval` also traces"),
    "limit": _works(
        "only the first questions of each task: a whole number of 1 or more, a share below 1, or all (-1). A share "
        "refers to the first task, and the other tasks get the same number of questions; a warning says so. A limit "
        "that separates rows of one question, as in MMBench, is warned of too"
    ),
    "offset": _works("starts with this question; the same warning as for `limit`"),
    "use_cache": _refused(
        "lmms-eval's response cache does not check the checkpoint's content, and its answers leave no trace; drop the "
        "flag: dualfocus stores every answer and resumes from there (trace_dir=FOLDER)"
    ),
    "cache_requests": _no_effect(
        "requests are always built again: lmms-eval 0.7.3 stores them without the functions that read a question's "
        "images, and does not notice when the task changes"
    ),
    "check_integrity": _refused("it runs lmms-eval's own test files, which its package does not contain"),
    "write_out": _works("prints the first contexts; deprecated by lmms-eval"),
    "log_samples": _works("one file of samples per task; reports need it"),
    "wandb_log_samples": _LOGGED,
    "swanlab_log_samples": _LOGGED,
    "log_samples_suffix": _no_effect("lmms-eval 0.7.3 never reads it", "model_outputs"),
    "system_instruction": _works("the system turn, like the model argument `system_prompt`; pass only one of them"),
    "apply_chat_template": _works("the checkpoint's chat template is always applied"),
    "show_config": _works("prints the results with the tasks' configurations"),
    "include_path": _works("a folder of tasks; its names take precedence over this package's"),
    "gen_kwargs": _works(
        "`max_new_tokens` and `until`; anything but greedy decoding is refused, and names without effect are warned of"
    ),
    "reasoning_tags": _works("lmms-eval removes the tagged text before it scores"),
    "verbosity": _works("how much lmms-eval logs"),
    "wandb_args": _works(
        "a feature of lmms-eval; needs its package and an account. With `dualfocus eval`, --output_path and "
        "--log_samples, the page has a table of answers with pictures, boxes and crops"
    ),
    "swanlab_args": _LOGGED,
    "timezone": _works("the time zone of the time stamps in results' file names"),
    "hf_hub_log_args": _works("uploads results and samples to the hub"),
    "predict_only": _works("answers without scores; it implies `log_samples`"),
    "seed": _works("seeds lmms-eval's random numbers; answers do not depend on it"),
    "trust_remote_code": _no_effect(
        "lmms-eval 0.7.3 never reads it; for the checkpoint's code, use --model_args trust_remote_code=true"
    ),
    "process_with_media": _works("passes documents with their images to the scorer"),
    "process_docs_parallel": _works("number of threads that score"),
    "agentic_trace_mode": _no_effect("tasks of several steps (`generate_until_agentic`) are refused", "basic"),
    "force_simple": _works("uses the tasks' visuals and texts instead of their messages"),
    "tui": _refused("it is a separate program: `lmms-eval tui`"),
    "repeats": _no_effect(
        "decoding is greedy: a question is answered once, the answer counts for every repetition, and measures of "
        "stability have no meaning",
        1,
    ),
    "baseline": _works("lmms-eval's paired t-test; `dualfocus compare` and `regress` compare per question"),
    "max_tokens": _no_effect("the budget is for servers that charge per token; limit the questions with --limit"),
    "power_analysis": _POWER,
    "effect_size": _POWER,
    "alpha": _POWER,
    "power": _POWER,
    "correlation": _POWER,
    "std_a": _POWER,
    "std_b": _POWER,
}  # fmt: skip
"""The verdict on every argument of lmms-eval 0.7.3 by its name in the parsed command line."""


def refuse_flags(given: Mapping[str, Any]) -> None:
    """Raise ``UserError`` for the first refused flag that is set in ``given``, a parsed command line, or its limit."""
    for name, flag in _set(given, "refused"):
        raise UserError(f"--{name} {given[name]} is not supported by dualfocus: {flag.note}")
    if not _is_limit(limit := given.get("limit")):
        raise UserError(f"--limit {limit} is neither a whole number of 1 or more, nor a share below 1, nor -1 (all)")


def _is_limit(value: Any) -> bool:
    """Whether lmms-eval takes ``value`` as it stands: it cuts 2.5 down to 2, and breaks on 0 questions."""
    if not isinstance(value, int | float):
        return value is None
    return value == -1 or 0 < value < 1 or (value >= 1 and float(value).is_integer())


def without_effect(given: Mapping[str, Any], tasks: Collection[str], grouped: Collection[str] = ()) -> list[str]:
    """A message for each flag in ``given`` that changes nothing, and for limits that do not do what they say.

    ``grouped`` names those of the run's ``tasks`` in which several rows make one question.
    """
    messages = [f"--{name} has no effect: {flag.note}" for name, flag in _set(given, "no effect")]
    limit = given.get("limit") or -1
    if 0 < limit < 1 and len(tasks) > 1:
        messages.append(
            f"--limit {limit}: lmms-eval takes this share of the first task, and as many questions of each other task"
        )
    for name in ("limit", "offset"):
        if grouped and (given.get(name) or -1) > 0:
            tasks_cut = ", ".join(sorted(grouped))
            messages.append(f"--{name} cuts rows of {tasks_cut} apart that belong together, which inflates the score")
    return messages


def _set(given: Mapping[str, Any], effect: Effect) -> list[tuple[str, Flag]]:
    return [(name, flag) for name, flag in FLAGS.items() if flag.effect == effect and given.get(name) not in flag.idle]
