"""Faults of checkpoints and adapters, met by ``dualfocus eval`` before a question is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from measurements.injected_faults.cases import Broken, Case, Command, Sound, changed_json, changed_weights, copied, cut

WEIGHTS = "model.safetensors"
HEAD = "language_model.lm_head.weight"
_NAMED = "lm_head.weight"
"""How transformers calls it: the model's own name, not that of the file."""


def cases() -> Iterator[Case]:
    """Each breaks one thing of a sound checkpoint."""
    for fault, said, spoil in _SPOILT:
        yield Case("eval", f"checkpoint: {fault}", 2, said, _answering(spoil))
    for fault, said, spoil in _ADAPTERS:
        yield Case("eval", f"adapter: {fault}", 2, said, _adapted(spoil))


def _answering(spoil: Callable[[Path], object]) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        checkpoint = copied(sound.checkpoint, folder)
        spoil(checkpoint)
        return asking(f"pretrained={checkpoint}")

    return broken


def asking(model_args: str, *more: str | Path) -> Command:
    """Two questions of an embedded set."""
    return Command(
        [
            "eval",
            "--model_args",
            model_args,
            "--tasks",
            "df_pope_mini_random",
            "--limit",
            "2",
            "--output_path",
            "out",
            "--log_samples",
            *more,
        ]
    )


def _without(*patterns: str) -> Callable[[Path], None]:
    def spoil(checkpoint: Path) -> None:
        for pattern in patterns:
            for path in checkpoint.glob(pattern):
                path.unlink()

    return spoil


def _config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda checkpoint: changed_json(checkpoint / "config.json", change)


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda checkpoint: changed_weights(checkpoint / WEIGHTS, change)


def _written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / name).write_bytes(content)  # type: ignore[return-value]


def _indexed(weight_map: dict[str, str]) -> Callable[[Path], None]:
    """The weights in a part of their own, which an index has to name; it says ``weight_map``."""

    def spoil(checkpoint: Path) -> None:
        (checkpoint / WEIGHTS).rename(checkpoint / "model-00001-of-00001.safetensors")
        index = {"metadata": {}, "weight_map": weight_map}
        (checkpoint / f"{WEIGHTS}.index.json").write_text(json.dumps(index))

    return spoil


def _pickled(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "pytorch_model.bin")


def _trailing(checkpoint: Path) -> None:
    with (checkpoint / WEIGHTS).open("ab") as file:
        file.write(b"more")


def _poisoned(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[HEAD][3, 3] = value

    return change


_SPOILT: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
    ("an empty folder", "config.json is missing", _without("*")),
    ("config.json is not JSON", "config.json", _written("config.json", b"{")),
    ("config.json is a list", "config.json", _written("config.json", b"[]")),
    ("unknown model_type", "model type", _config(lambda c: c.update(model_type="elsewhere"))),
    (
        "fewer layers in config.json than in the weights",
        "layers",
        _config(lambda c: c["text_config"].update(num_hidden_layers=1)),
    ),
    ("weights are missing", "model.safetensors", _without(WEIGHTS)),
    ("weights are a pickle", "pickle", _pickled),
    ("weights are truncated", "model.safetensors", lambda c: cut(c / WEIGHTS)),
    ("weights are an empty file", "model.safetensors", _written(WEIGHTS, b"")),
    ("extra bytes after the weights", "model.safetensors", _trailing),
    ("a weight is NaN", "NaN or infinite", _weights(_poisoned(float("nan")))),
    ("a weight is infinite", "NaN or infinite", _weights(_poisoned(float("inf")))),
    ("a weight is missing", _NAMED, _weights(lambda w: w.pop(HEAD))),
    ("a weight of the wrong shape", _NAMED, _weights(lambda w: w.update({HEAD: w[HEAD][:7].clone()}))),
    ("a weight that the model does not have", "elsewhere", _weights(lambda w: w.update(elsewhere=torch.ones(2)))),
    ("weights are integers", _NAMED, _weights(lambda w: w.update({HEAD: w[HEAD].to(torch.int32)}))),
    ("the index is empty", "index", _indexed({})),
    ("the index names a pickle", "index", _indexed({HEAD: "pytorch_model.bin"})),
    ("the index names a file outside", "index", _indexed({HEAD: "../other.safetensors"})),
    ("tokenizer.json is truncated", "cannot be loaded", lambda c: cut(c / "tokenizer.json")),
    ("no processor", "processor", _without("processor_config.json", "preprocessor_config.json")),
    (
        "the processor counts other image tokens than the model",
        "the processor reserves",
        lambda c: changed_json(c / "processor_config.json", lambda p: p.update(num_additional_image_tokens=5)),
    ),
    (
        "an image standard deviation of 0",
        "std",
        lambda c: changed_json(c / "processor_config.json", lambda p: p["image_processor"].update(image_std=[0, 1, 1])),
    ),
    (
        "an end token out of range",
        "eos_token_id",
        lambda c: changed_json(c / "generation_config.json", lambda g: g.update(eos_token_id=10**6)),
    ),
    (
        "an end token that is text",
        "eos_token_id",
        lambda c: changed_json(c / "generation_config.json", lambda g: g.update(eos_token_id="</s>")),
    ),
)


def _adapted(spoil: Callable[[Path], object]) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        adapter = folder / "adapter"
        adapter.mkdir()
        layer = "base_model.model.model.language_model.layers.{}.self_attn.q_proj.lora_{}.weight"
        shape = {"A": (2, 64), "B": (64, 2)}
        weights = {layer.format(n, side): torch.ones(shape[side]) for n in (0, 1, 2) for side in "AB"}
        save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ".*language_model.*q_proj"}
        (adapter / "adapter_config.json").write_text(json.dumps(settings))
        spoil(adapter)
        return asking(f"pretrained={sound.checkpoint},peft={adapter}")

    return broken


_TENSORS = "adapter_model.safetensors"
_ADAPTERS: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
    ("truncated", "adapter", lambda a: cut(a / _TENSORS)),
    ("its configuration is not JSON", "adapter", lambda a: (a / "adapter_config.json").write_text("{")),
    (
        "names that do not match the model",
        "adapter",
        lambda a: changed_weights(
            a / _TENSORS, lambda w: [w.update({k.replace("layers", "blocks"): w.pop(k)}) for k in list(w)]
        ),
    ),
    (
        "a layer is missing",
        "adapter",
        lambda a: changed_weights(a / _TENSORS, lambda w: [w.pop(k) for k in list(w) if ".1." in k]),
    ),
    (
        "a prompt-tuning adapter",
        "adapter",
        lambda a: changed_json(a / "adapter_config.json", lambda c: c.update(peft_type="PROMPT_TUNING")),
    ),
)
