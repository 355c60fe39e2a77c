"""The model arguments of ``--model dualfocus``: their names, their types and the one place where they are resolved.

Argument > recipe > the checkpoint's ``dualfocus.json`` > family > default. Imports nothing heavy, so that a wrong
argument is refused at once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.common.naming import refuse_unknown
from dualfocus_eval.common.old_names import OLD_RULES
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT
from dualfocus_eval.engines.checkpoint_files import checkpoint_file, read_json
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.recipe import INFERENCE_KEYS, Recipe, load_recipe

__all__ = ["ARGUMENTS", "RunConfig", "check", "resolve"]

_RUN_ARGUMENTS: dict[str, Any] = {
    "batch_size": int,
    "max_batch_size": int | None,
    "recipe": str | None,
    "system_prompt": str | None,
    "trace_dir": str | None,
}
_ENGINE_ARGUMENTS: dict[str, Any] = {k: v for k, v in get_type_hints(EngineConfig).items() if k != "max_conversations"}
_SETTINGS: dict[str, Any] = get_type_hints(Settings)
_TYPES = _RUN_ARGUMENTS | _ENGINE_ARGUMENTS | _SETTINGS

ARGUMENTS = tuple(sorted(_TYPES))
"""Every model argument."""


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run that is decided before a model is loaded."""

    settings: Settings
    engine: EngineConfig
    batch_size: int
    """Questions answered together."""
    system_prompt: str | None = None
    trace_dir: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each setting came from: argument, recipe, checkpoint, family or default."""


def check(given: Mapping[str, Any]) -> None:
    """Raise ``UserError`` for what is wrong with model arguments and their recipe; reads no checkpoint."""
    arguments, recipe = _parsed(given)
    if recipe is not None and not arguments.get("pretrained"):
        _trained(recipe)
    _settings(_recipe_layer(recipe) | _inference(arguments), {})


def resolve(given: Mapping[str, Any]) -> RunConfig:
    """Settle every setting of a run from its model arguments.

    Raises ``UserError`` that names the argument or key at fault, where it stands and what is allowed.
    """
    arguments, recipe = _parsed(given)
    pretrained = arguments.get("pretrained") or (recipe and _trained(recipe)) or _embedded_checkpoint()
    revision = arguments.get("revision")
    layers = {
        "argument": _inference(arguments),
        "recipe": _recipe_layer(recipe),
        "checkpoint": _checkpoint_layer(pretrained, revision, arguments.get("peft")),
        "family": _family_layer(pretrained, revision),
    }
    values: dict[str, Any] = {}
    sources = dict.fromkeys(INFERENCE_KEYS, "default")
    for source, layer in reversed(layers.items()):
        values |= layer
        sources |= dict.fromkeys(layer, source)
    batch_size = arguments.get("batch_size", 1)
    engine = {name: arguments[name] for name in _ENGINE_ARGUMENTS if name in arguments}
    engine |= {"pretrained": pretrained, "max_conversations": 2 * batch_size}  # two conversations of each question
    if "image_aspect" in values:
        engine["image_aspect"] = values["image_aspect"]
    trace_dir = arguments.get("trace_dir")
    return RunConfig(
        settings=_settings(values, sources),
        engine=EngineConfig(**engine),
        batch_size=batch_size,
        system_prompt=_system_prompt(arguments.get("system_prompt")),
        trace_dir=Path(trace_dir).expanduser() if trace_dir else None,
        sources=sources,
    )


def _parsed(given: Mapping[str, Any]) -> tuple[dict[str, Any], Recipe | None]:
    refuse_unknown(given, ARGUMENTS, "--model_args", "argument")
    arguments = {name: _typed(name, value, "--model_args") for name, value in given.items()}
    if arguments.get("batch_size", 1) < 1:
        raise UserError(f"batch_size={arguments['batch_size']}: a batch is a number of questions, 1 or more")
    if arguments.get("recipe"):
        return arguments, load_recipe(arguments["recipe"])
    # Without a word on the model, it is the embedded checkpoint with its own recipe.
    return arguments, None if arguments.get("pretrained") else load_recipe(EMBEDDED_CHECKPOINT)


def _inference(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in INFERENCE_KEYS if name in arguments}


def _settings(values: Mapping[str, Any], sources: Mapping[str, str]) -> Settings:
    try:
        return Settings(**{name: value for name, value in values.items() if name in _SETTINGS})
    except ValueError as error:
        source = sources.get(str(error).partition("=")[0])
        raise UserError(f"{error} (from: {source})" if source else str(error)) from error


def _trained(recipe: Recipe) -> str | None:
    """The recipe's model: the one it names, or what ``dualfocus train`` made of it here."""
    if recipe.pretrained or recipe.trained is None:
        return recipe.pretrained
    if not recipe.trained.is_dir():
        raise UserError(
            f"recipe {recipe.path} is for a model that it trains, and {recipe.trained} is not there: train it with "
            "`dualfocus train`, or name the checkpoint with pretrained=FOLDER"
        )
    return str(recipe.trained)


def _embedded_checkpoint() -> str:
    return load_recipe(EMBEDDED_CHECKPOINT).pretrained or ""


def _recipe_layer(recipe: Recipe | None) -> dict[str, Any]:
    if recipe is None:
        return {}
    return {name: _typed(name, value, f"recipe {recipe.path}") for name, value in recipe.inference.items()}


def _checkpoint_layer(pretrained: str, revision: str | None, peft: str | None) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for source, version in ((pretrained, revision), (peft, None)):
        found = _checkpoint_json(source, "dualfocus.json", version) if source else {}
        where = f"{source}/dualfocus.json"
        refuse_unknown(found, ("inference", "provenance"), where, "key")
        inference = found.get("inference", {})
        if not isinstance(inference, dict):
            raise UserError(f"{where}, inference: expected keys with values, found {type(inference).__name__}")
        refuse_unknown(inference, INFERENCE_KEYS, f"{where}, inference", "key")
        layer |= {name: _typed(name, value, where) for name, value in inference.items()}
    return layer


def _family_layer(pretrained: str, revision: str | None) -> dict[str, Any]:
    family = FAMILIES.items.get(str(_checkpoint_json(pretrained, "config.json", revision).get("model_type", "")))
    if family is None:  # the engine refuses the checkpoint with the reason
        return {}
    return dict(family.settings)


def _checkpoint_json(checkpoint: str, name: str, revision: str | None) -> dict[str, Any]:
    """A JSON file of a checkpoint folder or hub repository; empty when there is none. Raises ``CheckpointError``."""
    try:
        path = checkpoint_file(checkpoint, name, revision)
    except CheckpointError:  # no such repository: the engine, which needs it, says so
        return {}
    return read_json(path) if path is not None else {}


def _system_prompt(value: str | None) -> str | None:
    """The text itself, or the content of the file it names, as in lmms-eval's own models."""
    if value and len(value) < 4096 and Path(value).is_file():
        return Path(value).read_text(encoding="utf-8").strip()
    return value or None


def _typed(name: str, value: Any, where: str) -> Any:
    """``value`` as the type of argument ``name``. lmms-eval has already turned what looks like a number into one."""
    expected = _TYPES[name]
    options = get_args(expected) if get_origin(expected) in (UnionType, Union) else (expected,)
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
        if NoneType in options:
            return None
        raise UserError(f"{where}: {name} needs a value")
    kind = next(option for option in options if option is not NoneType)
    try:
        return _renamed(name, _converted(kind, value), where)
    except (TypeError, ValueError):
        if name == "batch_size" and str(value).startswith("auto"):
            raise UserError(
                f"{where}: batch_size={value} is not supported: a batch is a number of questions; one that does not "
                "fit into memory is halved by itself. Give a number."
            ) from None
        raise UserError(f"{where}: {name}={value!r} is not {_KIND_NAMES.get(kind, 'text')}") from None


def _renamed(name: str, value: Any, where: str) -> Any:
    """``value``, or today's name of a selection rule that is given by its old one, with a warning."""
    if name != "selection" or value not in OLD_RULES:
        return value
    new = OLD_RULES[value]
    warnings.warn(
        f"{where}: selection={value} is now called {new}; the old name goes with the next version",
        FutureWarning,
        stacklevel=2,
    )
    return new


_KIND_NAMES = {bool: "true or false", int: "a whole number", float: "a finite number"}


def _converted(kind: Any, value: Any) -> Any:
    if kind is bool:
        if str(value).lower() not in ("true", "false"):
            raise ValueError
        return str(value).lower() == "true"
    if kind is int:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
        return int(value)
    if kind is float:
        if isinstance(value, bool) or not math.isfinite(float(value)):
            raise ValueError
        return float(value)
    if isinstance(value, bool | dict | list):
        raise ValueError
    text = str(value)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
