"""PEFT adapters: every weight of the file lands in the model, and every one that the model expects is in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dualfocus_eval.common.errors import CheckpointError, first_line
from dualfocus_eval.engines.adapter_names import PREFIX, in_todays_names
from dualfocus_eval.engines.checkpoint_files import (
    check_weights,
    checkpoint_file,
    is_finite,
    read_json,
    refuse_missing_folder,
)
from dualfocus_eval.families import Family

__all__ = ["merge_adapter"]

_UNUSED = ("non_lora_trainables.bin", "non_lora_trainables.safetensors")
_FACTOR = re.compile(r"\.lora_(embedding_)?[AB]\b")
"""In the names of the two factors whose product a LoRA adds to a weight."""


def merge_adapter(model: Any, adapter: str, family: Family) -> Any:
    """``model`` with the adapter (folder or hub id) merged into its weights.

    Adapters that were saved with earlier names of the same modules are translated. Raises ``CheckpointError`` for a
    damaged or unsupported adapter and for one that does not fit the model weight by weight.
    """
    from peft import get_peft_model
    from safetensors.torch import load_file

    config, file = _read(adapter)
    weights = load_file(file)
    try:
        config, weights = in_todays_names(model, config, weights, family)
        tuned = get_peft_model(model, config)
        _refuse_tied(tuned, adapter)
        _load(tuned, weights, adapter)
        return tuned.merge_and_unload(safe_merge=True)  # safe: refuses a result with NaN or infinite numbers
    except CheckpointError:
        raise
    except Exception as error:  # peft's tuners raise errors of every kind for a configuration that does not fit
        raise CheckpointError(f"{adapter}: the adapter cannot be applied to the model: {first_line(error)}") from error


def _read(adapter: str) -> tuple[Any, Path]:
    """The adapter's configuration, and its file of weights."""
    from peft import PeftConfig

    refuse_missing_folder(adapter)
    settings = checkpoint_file(adapter, "adapter_config.json")
    file = checkpoint_file(adapter, "adapter_model.safetensors")
    if settings is None:
        raise CheckpointError(f"{adapter}: adapter_config.json is missing; an adapter as peft saves it is needed")
    if file is None:
        raise CheckpointError(f"{adapter}: adapter_model.safetensors is missing; pickled adapters are refused")
    for name in _UNUSED:
        if checkpoint_file(adapter, name) is not None:
            raise CheckpointError(
                f"{adapter}: {name} holds weights that were trained with the adapter, and peft does not load them; "
                "merge all with the LLaVA repository's scripts/merge_lora_weights.py, then use `dualfocus convert`"
            )
    check_weights([file])
    content = read_json(settings)
    if content.get("peft_type") == "LORA":
        _check_numbers(content, settings)
    try:
        config = PeftConfig.from_pretrained(str(settings.parent))
    except Exception as error:  # wrong types in the file provoke errors of every kind
        raise CheckpointError(f"{settings}: cannot be used: {first_line(error)}") from error
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise CheckpointError(
            f"{settings}: peft_type {content.get('peft_type')} adds inputs, which cannot be merged into the weights; "
            "only adapters of the weights, such as LoRA, are supported"
        )
    config.inference_mode = True
    config.base_model_name_or_path = None  # peft would warn of a base that has been moved
    return config, file


def _check_numbers(config: Mapping[str, Any], file: Path) -> None:
    """Raise ``CheckpointError`` for a LoRA's rank or scale that is no number: peft breaks on it without a name."""
    kinds: dict[str, tuple[type, ...]] = {"r": (int,), "lora_alpha": (int, float), "lora_dropout": (int, float)}
    values = {key: (config[key], kinds[key]) for key in kinds if key in config}
    for name, key in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha")):
        pattern = config.get(name) or {}
        if not isinstance(pattern, dict):
            raise CheckpointError(f"{file}: {name} is {_shown(pattern)}; names of modules with numbers are needed")
        values |= {f"{name}: {module}": (value, kinds[key]) for module, value in pattern.items()}
    for name, (value, kind) in values.items():
        if type(value) not in kind:
            needed = "a number" if float in kind else "a whole number"
            raise CheckpointError(f"{file}: {name} is {_shown(value)}; {needed} is needed")


def _shown(value: Any) -> str:
    return repr(value)[:80]


def _refuse_tied(tuned: Any, adapter: str) -> None:
    """Merging into a weight that embedding and head share would change the one that was not trained."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {name: m.get_base_layer() for name, m in tuned.named_modules() if isinstance(m, BaseTunerLayer)}
    model = tuned.get_base_model()
    ends = [getattr(end, "base_layer", end) for end in (model.get_input_embeddings(), model.get_output_embeddings())]
    if ends[0].weight is not ends[1].weight:
        return
    for name, layer in layers.items():
        if any(layer is end for end in ends):
            raise CheckpointError(
                f"{adapter}: it changes {name.removeprefix(PREFIX)}, whose weight the model shares between embedding "
                "and head; merge it into a copy of the base without tie_word_embeddings and evaluate that"
            )


def _load(tuned: Any, weights: Mapping[str, torch.Tensor], adapter: str) -> None:
    """Load ``weights`` into the adapter of ``tuned`` and see that each has arrived."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    own = {key: value for key, value in tuned.state_dict().items() if ".lora_" not in key}
    expected = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    missing = [key for key in expected if key not in weights]
    unexpected = [key for key in weights if key not in expected and key not in own]
    if missing or unexpected:
        faults = {"missing from it": missing, "not of the model": unexpected}
        what = ", and ".join(f"{_counted(keys)} {fault}" for fault, keys in faults.items() if keys)
        raise CheckpointError(
            f"{adapter}: the adapter does not fit the model: {what}; take the base that it was trained on"
        )
    for key, value in weights.items():
        place = expected[key] if key in expected else own[key]
        if place.shape != value.shape:
            raise CheckpointError(
                f"{adapter}: {key} has shape {tuple(value.shape)}, but the model has {tuple(place.shape)}; take the "
                "base that it was trained on"
            )
        if not is_finite(value):
            raise CheckpointError(f"{adapter}: {key} has NaN or infinite numbers: its training diverged")
    before = own | expected
    changed = any(
        not torch.equal(before[key], value.to(before[key])) for key, value in weights.items() if not _FACTOR.search(key)
    )
    set_peft_model_state_dict(tuned, dict(weights))
    landed = tuned.state_dict() | get_peft_model_state_dict(tuned, save_embedding_layers=False)
    lost = [key for key, value in weights.items() if not torch.equal(landed[key], value.to(landed[key]))]
    if lost:
        raise CheckpointError(
            f"{adapter}: {_counted(lost)} not taken over by peft; report this with the adapter's name"
        )
    if not changed and _adds_nothing(tuned):
        raise CheckpointError(
            f"{adapter}: the adapter changes none of the model's weights (scaling 0, or all lora_B are zero); its "
            "answers would be those of the base: train it, or leave peft out"
        )


def _adds_nothing(tuned: Any) -> bool:
    """Whether ``tuned`` is a LoRA whose products are all zero."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in tuned.modules() if isinstance(module, LoraLayer)]
    return bool(layers) and not any(
        weight.any()
        for layer in layers
        if any(layer.scaling.values())
        for name, weight in layer.named_parameters()
        if name.startswith(("lora_B", "lora_embedding_B"))
    )


def _counted(keys: Sequence[str]) -> str:
    return f"{keys[0]} is" if len(keys) == 1 else f"{len(keys)} weights ({keys[0]} first) are"
