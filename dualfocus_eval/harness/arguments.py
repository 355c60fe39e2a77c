"""The model arguments of ``--model dualfocus``, and the one place where they are resolved.

Argument > recipe > the checkpoint's ``dualfocus.json`` > family > default. Imports nothing heavy, so that a wrong
argument is refused at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import pydantic.dataclasses
from pydantic import BeforeValidator, Field

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.old_names import renamed
from dualfocus_eval.common.resources import EMBEDDED_CHECKPOINT
from dualfocus_eval.common.validation import CLOSED, partial, validated
from dualfocus_eval.engines.config import EngineConfig
from dualfocus_eval.engines.server.config import ServerConfig
from dualfocus_eval.families import Family, family_of
from dualfocus_eval.families.generic import UNKNOWN, generic_family
from dualfocus_eval.harness.calibrated import named_calibration
from dualfocus_eval.harness.checkpoint_settings import checkpoint_json, checkpoint_settings
from dualfocus_eval.harness.family_notes import family_warnings, refuse_unknown_sizes
from dualfocus_eval.method.selection.calibration import Calibration
from dualfocus_eval.method.settings import ONLY_WITH, Settings
from dualfocus_eval.recipe import INFERENCE_KEYS, Recipe, load_recipe, recipe_names

__all__ = ["ARGUMENTS", "KEPT_SIDES", "KeptImages", "RunArguments", "RunConfig", "check", "resolve"]


def _not_auto(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("auto"):
        raise ValueError(
            f"{value} is not supported: a batch is a number of questions; one that does not fit into memory is halved "
            "by itself. Give a number."
        )
    return value


KeptImages = Literal["off", "768", "full"]
KEPT_SIDES: Mapping[KeptImages, float | None] = {"off": None, "768": 768, "full": math.inf}
"""The longest side of the images that the trace folder keeps, in pixels (`traces.pictures.PictureStore`)."""


def _size_text(value: Any) -> Any:
    if str(value) == "False":  # what YAML makes of off, in a --config
        return "off"
    return str(value) if type(value) is int else value  # lmms-eval's parser makes a number of it


@pydantic.dataclasses.dataclass(frozen=True, config=CLOSED)
class RunArguments:
    """The model arguments that concern neither the engine nor the method."""

    batch_size: Annotated[int, Field(ge=1), BeforeValidator(_not_auto)] = 1
    """Questions answered together. A batch that does not fit into memory is halved by itself. Servers get
    ``concurrency`` questions instead."""
    max_batch_size: int | None = None
    """No effect; lmms-eval always passes it."""
    engine: Literal["in_process", "server"] = "in_process"
    """What runs the model: this process, or servers with the OpenAI API at ``base_url``."""
    recipe: str | None = None
    """A recipe of the package by its name, or a file: its settings, and its checkpoint unless ``pretrained`` is
    given."""
    system_prompt: str | None = None
    """The conversation's system turn, or a file that holds it."""
    trace_dir: str | None = None
    """Folder of the traces, where a rerun finds its answers. By default ``dualfocus eval`` chooses one below
    ``--output_path``, lmms-eval one in the user's cache."""
    trace_images: Annotated[KeptImages, BeforeValidator(_size_text)] = "768"
    """Which images the trace folder keeps for the inspector: none, each with its longer side at most 768 px, or
    each in its own size. No effect on answers, nor on ``df.load``, which keeps none."""


_ENGINE_TYPES = get_type_hints(EngineConfig, include_extras=True)
del _ENGINE_TYPES["max_conversations"]  # follows from the batch size
_SERVER_TYPES = get_type_hints(ServerConfig, include_extras=True)
_METHOD_TYPES = get_type_hints(Settings, include_extras=True)
_TYPES = get_type_hints(RunArguments, include_extras=True) | _SERVER_TYPES | _ENGINE_TYPES | _METHOD_TYPES
_Arguments = partial("Arguments", _TYPES)

ARGUMENTS = tuple(sorted(_TYPES))
"""Every model argument."""


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run that is decided before a model is loaded."""

    settings: Settings
    engine: EngineConfig | ServerConfig
    batch_size: int
    """Questions answered together."""
    system_prompt: str | None = None
    trace_dir: Path | None = None
    trace_images: KeptImages = "768"
    """Which images the trace folder keeps."""
    calibration: Calibration | None = None
    """The calibrated choice that ``settings.selection`` names, if it does."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each setting came from: argument, recipe, checkpoint, family or default."""
    warnings: tuple[str, ...] = ()
    """What the user is to be told, such as names that are going away."""


@dataclass(frozen=True)
class _Layer:
    """What one source says of the settings."""

    source: str
    values: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def check(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Raise ``UserError`` for what is wrong with model arguments and their recipe; reads no checkpoint.

    Returns what the user is to be warned of.
    """
    arguments, recipe, warnings = _parsed(given)
    if recipe is not None and not arguments.get("pretrained") and arguments.get("engine") != "server":
        _trained(recipe)
    values = {**(recipe.inference if recipe else {}), **arguments}
    named_calibration(values)
    _settings(values)
    return warnings


def resolve(given: Mapping[str, Any]) -> RunConfig:
    """Settle every setting of a run from its model arguments.

    Raises ``UserError`` that names the argument or key at fault, where it stands and what is allowed.
    """
    arguments, recipe, warnings = _parsed(given)
    revision = arguments.get("revision")
    served = _served(arguments) if arguments.get("engine") == "server" else None
    pretrained = _pretrained(arguments, recipe) if served is None else served.pretrained
    family = _family(pretrained, revision) if pretrained else generic_family(UNKNOWN)
    layers = [
        _Layer("family", dict(family.settings) if family else {}),
        _Layer("checkpoint", *checkpoint_settings(pretrained, revision)),
        _Layer("checkpoint", *checkpoint_settings(arguments.get("peft"), None)),
        _Layer("recipe", recipe.inference if recipe else {}),
        _Layer("argument", {name: arguments[name] for name in INFERENCE_KEYS if name in arguments}),
    ]
    values, sources = _merged(layers)
    calibration = named_calibration(values)
    batch_size = arguments.get("batch_size", 1)
    trace_dir = arguments.get("trace_dir")
    settings = _settings(values)
    if family:
        refuse_unknown_sizes(family, settings)
        warnings = (*warnings, *family_warnings(family, settings, served=served is not None))
    warnings = (*warnings, *_idle_options(settings, sources))
    if served and values.get("image_aspect") == "pad":
        warnings = (*warnings, "image_aspect=pad has no effect: a server shows images as its own processor does it")
    return RunConfig(
        settings=settings,
        engine=_limited(served, values) if served else _in_process(arguments | values, str(pretrained), batch_size),
        batch_size=batch_size,
        system_prompt=_system_prompt(arguments.get("system_prompt")),
        trace_dir=Path(trace_dir).expanduser() if trace_dir else None,
        trace_images=arguments.get("trace_images", "768"),
        calibration=calibration,
        sources=sources,
        warnings=(*warnings, *(warning for layer in layers for warning in layer.warnings)),
    )


def _merged(layers: Iterable[_Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the layers say together, a later one above those before it, and where each setting came from."""
    values: dict[str, Any] = {}
    sources = dict.fromkeys(INFERENCE_KEYS, "default")
    for layer in layers:
        values |= layer.values
        sources |= dict.fromkeys(layer.values, layer.source)
    return values, sources


def _idle_options(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """What the user is told of options that the chosen grounding method does not go by."""
    for name, method in ONLY_WITH.items():
        if settings.grounding != method and sources[name] == "argument":
            yield f"{name}={getattr(settings, name)} has no effect: it is an option of grounding={method} only"


def _in_process(values: Mapping[str, Any], pretrained: str, batch_size: int) -> EngineConfig:
    engine = {name: value for name, value in values.items() if name in _ENGINE_TYPES}
    engine |= {"pretrained": pretrained, "max_conversations": 2 * batch_size}  # two conversations of each question
    return validated(EngineConfig, engine, "--model_args")


def _limited(config: ServerConfig, values: Mapping[str, Any]) -> ServerConfig:
    """``config`` with the limits of image sizes that a recipe or the checkpoint sets."""
    return replace(config, **{name: values[name] for name in ("min_pixels", "max_pixels") if name in values})


def _served(arguments: Mapping[str, Any]) -> ServerConfig:
    """The servers, with their model and its checkpoint as the first of them names both, if the user does not."""
    config = validated(
        ServerConfig, {name: value for name, value in arguments.items() if name in _SERVER_TYPES}, "--model_args"
    )
    if config.model and config.pretrained:
        return config
    from dualfocus_eval.engines.server.probing import served_model

    served = served_model(config)
    # A name without an owner is the server's own, such as gpt-4o, and no repository of the hub.
    places = [place for place in (served.root, served.model) if place and "/" in place and not config.pretrained]
    found = (place for place in places if checkpoint_json(place, "config.json", config.revision))
    return replace(config, model=served.model, pretrained=config.pretrained or next(found, None))


def _refuse_foreign(arguments: Mapping[str, Any]) -> None:
    """Raise ``UserError`` for an argument that the chosen engine has no use for."""
    served = arguments.get("engine") == "server"
    theirs, other = (_ENGINE_TYPES, "in_process") if served else (_SERVER_TYPES, "server")
    own = _SERVER_TYPES if served else _ENGINE_TYPES
    foreign = sorted(name for name in arguments if name in theirs and name not in own)
    if foreign:
        remedy = "leave it out, a server is started with its own" if served else "add engine=server, or leave it out"
        raise UserError(f"--model_args: {foreign[0]} is an argument of engine={other} only: {remedy}")
    if served and "base_url" not in arguments:
        raise UserError("--model_args: engine=server needs base_url, the server's address: base_url=http://HOST:8000")


def _parsed(given: Mapping[str, Any]) -> tuple[dict[str, Any], Recipe | None, tuple[str, ...]]:
    """The typed arguments, the recipe that goes with them, and warnings of old names in either."""
    current, warnings = renamed(given, "--model_args")
    arguments = validated(_Arguments, current, "--model_args").model_dump(exclude_unset=True)
    _refuse_foreign(arguments)
    # Without a word on the model, it is the embedded checkpoint with its own recipe.
    named = arguments.get("pretrained") or arguments.get("engine") == "server"
    name = arguments.get("recipe") or (None if named else EMBEDDED_CHECKPOINT)
    recipe = load_recipe(name) if name else None
    return arguments, recipe, (*warnings, *(recipe.warnings if recipe else ()))


def _settings(values: Mapping[str, Any]) -> Settings:
    """Each value was checked where it stands; this checks that they go together."""
    return validated(Settings, {name: value for name, value in values.items() if name in _METHOD_TYPES}, "settings")


def _pretrained(arguments: Mapping[str, Any], recipe: Recipe | None) -> str:
    return arguments.get("pretrained") or (recipe and _trained(recipe)) or _embedded_checkpoint()


def _trained(recipe: Recipe) -> str | None:
    """The recipe's model: the one it names, or what ``dualfocus train`` made of it here."""
    if recipe.pretrained or recipe.trained is None:
        return recipe.pretrained
    if not recipe.trained.is_dir():
        base = f"{recipe.path.stem}-base"
        untrained = f", or take recipe={base}, which is for the model before training" if base in recipe_names() else ""
        raise UserError(
            f"recipe {recipe.path} is for a model that it trains, and {recipe.trained} is not there: train it with "
            f"`dualfocus train`, or name the checkpoint with pretrained=FOLDER{untrained}"
        )
    return str(recipe.trained)


def _embedded_checkpoint() -> str:
    return load_recipe(EMBEDDED_CHECKPOINT).pretrained or ""


def _family(pretrained: str, revision: str | None) -> Family | None:
    """The checkpoint's family; None where its configuration cannot be had: the engine refuses it with the reason."""
    model_type = str(checkpoint_json(pretrained, "config.json", revision).get("model_type", ""))
    return family_of(model_type) if model_type else None


def _system_prompt(value: str | None) -> str | None:
    """The text itself, or the content of the file it names, as in lmms-eval's own models."""
    if value and len(value) < 4096 and Path(value).is_file():
        return Path(value).read_text(encoding="utf-8").strip()
    return value or None
