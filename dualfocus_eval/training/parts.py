"""Which of a model's weights are trained: whole parts of it, or low-rank adapters."""

from __future__ import annotations

from typing import Any

from torch import nn

from dualfocus_eval.families import Family
from dualfocus_eval.training.tuning import Lora, Part, TuningStage

__all__ = ["part_of", "prepare_training"]


def part_of(name: str, family: Family) -> Part:
    """The part of the model that the weight ``name`` belongs to."""
    # Qwen's connector lies within its vision tower.
    if name.startswith(tuple(f"{prefix}." for prefix in family.connectors)):
        return "connector"
    return "vision_tower" if name.startswith(f"{family.vision_tower}.") else "language_model"


def prepare_training(model: Any, family: Family, stage: TuningStage) -> Any:
    """The model to train: ``stage.freeze`` is frozen, and with ``lora`` all but adapters and connector."""
    if stage.lora is not None:
        model = _with_adapters(model, family, stage.lora, connector="connector" in stage.trained)
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = part_of(name, family) in stage.trained
    if stage.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        # transformers makes gradients flow out of the embeddings, which this kind of checkpointing does not need: the
        # frozen vision tower would be computed again and differentiated.
        model.disable_input_require_grads()
    return model


def _with_adapters(model: Any, family: Family, lora: Lora, *, connector: bool) -> Any:
    from peft import LoraConfig, get_peft_model

    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{family.language_model}.")
    ]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=linear,
        modules_to_save=_connector_modules(model, family) if connector else None,
    )
    wrapped = get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            # The frozen weights may be in bfloat16; what is trained needs more.
            parameter.data = parameter.data.float()
    return wrapped


def _connector_modules(model: Any, family: Family) -> list[str]:
    """Names of the connector's modules; peft takes the parts of a list, not the list."""
    names = []
    for name in family.connectors:
        module = model.get_submodule(name)
        parts = [f"{name}.{number}" for number in range(len(module))] if isinstance(module, nn.ModuleList) else [name]
        names += [part.removeprefix("model.") for part in parts]
    return names
