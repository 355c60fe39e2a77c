"""The hub's llava-hf layout: its configuration, and what the original layout calls each of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from dualfocus_eval.common.errors import CheckpointError, first_line
from dualfocus_eval.convert.source import SourceCheckpoint
from dualfocus_eval.convert.weights import Entry
from dualfocus_eval.engines.checkpoint_files import check_layers, read_json

__all__ = [
    "SPECIAL_TOKENS",
    "TOWER",
    "VOCABULARY",
    "Target",
    "llava_config",
    "matched",
    "padded_rows",
    "targets",
    "tower_config",
]

TOWER = "model.vision_tower.vision_tower.vision_model."
"""What the vision tower's weights begin with where the checkpoint holds them."""
VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
"""The weights with one row per token."""
SPECIAL_TOKENS = ("bos", "eos", "pad")

_NAMES = (
    # In transformers' model, in the original layout, on the hub.
    ("model.language_model.", "model.", "language_model.model."),
    ("lm_head.", "lm_head.", "language_model.lm_head."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.vision_tower.", TOWER, "vision_tower.vision_model."),
)
_TEXT_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "attention_bias",
    "mlp_bias",
)
_CLIP_L14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
# OpenAI's, and the ones that ShareGPT4V trained on from it. Towers of the same shapes have other activations.
_CLIP_L14_NAMES = re.compile(r"^clip-vit-large-patch14(-336)?$|^sharegpt4v-.*vit-large336")


@dataclass(frozen=True)
class Target:
    """A weight of the converted checkpoint: its name on the hub, and its shape before tokens are added."""

    name: str
    shape: tuple[int, ...]


def tower_config(source: SourceCheckpoint, inside: bool, folder: Path | None) -> CLIPVisionConfig:
    """The vision tower's shape: from ``folder``, or OpenAI's CLIP ViT-L/14 where the checkpoint has it ``inside``."""
    name = source.vision_tower
    if folder is not None:
        raw = read_json(folder / "config.json")
        if raw.get("model_type") not in ("clip", "clip_vision_model"):
            raise CheckpointError(
                f"{folder}: a {raw.get('model_type')} model, not a CLIP vision tower; {name} is needed"
            )
        check_layers(raw, folder / "config.json")
        try:
            return CLIPVisionConfig.from_pretrained(folder)
        except Exception as error:  # wrong types provoke errors of every kind
            raise CheckpointError(f"{folder / 'config.json'}: cannot be used: {first_line(error)}") from error
    if not inside:
        raise CheckpointError(
            f"{source.folder}: the vision tower is not in the checkpoint, only its name, mm_vision_tower {name!r}; "
            "download that and give its folder with --vision-tower"
        )
    known = name.rstrip("/").rsplit("/", 1)[-1].lower()
    if not _CLIP_L14_NAMES.search(known):
        raise CheckpointError(
            f"{source.folder}: the vision tower's weights are there, but mm_vision_tower {name!r} is not a known one; "
            "give a folder with its config.json with --vision-tower"
        )
    return CLIPVisionConfig(**_CLIP_L14, image_size=336 if "336" in known else 224)


def llava_config(
    source: SourceCheckpoint, tower: CLIPVisionConfig, tokenizer: Any, rows: int, dtype: torch.dtype
) -> LlavaConfig:
    """The converted checkpoint's configuration; ``rows`` is the padded size of its vocabulary."""
    raw = source.config
    if tower.hidden_size != raw["mm_hidden_size"]:
        raise CheckpointError(
            f"{source.folder}: the projector takes features of width {raw['mm_hidden_size']} (mm_hidden_size), but the "
            f"vision tower gives {tower.hidden_size}; give {source.vision_tower} with --vision-tower"
        )
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_TOKENS}
    chosen = {name: raw[name] for name in _TEXT_KEYS if raw.get(name) is not None}
    try:
        text = LlamaConfig(vocab_size=rows, tie_word_embeddings=False, dtype=dtype, **chosen, **ids)
    except Exception as error:  # wrong types and values provoke errors of every kind
        raise CheckpointError(
            f"{source.folder / 'config.json'}: not a Llama configuration: {first_line(error)}"
        ) from error
    tower.dtype = dtype
    return LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        projector_hidden_act="gelu",
        vision_feature_layer=raw["mm_vision_select_layer"],
        vision_feature_select_strategy="default",
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        tie_word_embeddings=False,
        architectures=["LlavaForConditionalGeneration"],
        dtype=dtype,
    )


def targets(config: LlavaConfig, vocabulary: int) -> dict[str, Target]:
    """Every weight of the architecture, by its key in the original layout, where ``vocabulary`` tokens have rows."""
    with torch.device("meta"):
        weights = LlavaForConditionalGeneration(config).state_dict()
    found = {}
    for name, value in weights.items():
        inner, original, hub = next(names for names in _NAMES if name.startswith(names[0]))
        rest = name.removeprefix(inner)
        shape = tuple(value.shape)
        key = original + rest
        found[key] = Target(hub + rest, (vocabulary, *shape[1:]) if key in VOCABULARY else shape)
    return found


def matched(
    wanted: Mapping[str, Target], entries: Mapping[str, Entry], source: SourceCheckpoint, tower_folder: Path | None
) -> list[tuple[Entry, Target]]:
    """Every entry with its target. Raises ``CheckpointError`` for a missing, an unknown and a mis-shaped weight.

    ``tower_folder`` is where the vision tower's weights came from, if not from the checkpoint.
    """
    missing = [key for key in wanted if key not in entries]
    if missing:
        key = missing[0]
        where = tower_folder if tower_folder is not None and key.startswith(TOWER) else source.folder
        place = source.weights.index.get(key) or "its weight files"
        raise CheckpointError(
            f"{where}: {_first_of(missing)} missing from {place}; download that again, and check that config.json "
            "is of the same release"
        )
    unknown = [key for key in entries if key not in wanted]
    if unknown:
        raise CheckpointError(
            f"{entries[unknown[0]].file}: {_first_of(unknown)} not of LLaVA-1.5's architecture with the sizes in "
            "config.json; a checkpoint of another architecture cannot be converted, else get config.json of its release"
        )
    for key, entry in entries.items():
        if entry.shape != wanted[key].shape:
            raise CheckpointError(
                f"{entry.file}: {key} has shape {entry.shape}, the configuration asks for {wanted[key].shape}; "
                "take config.json and weights (or --vision-tower) from the same release; an empty shape is a weight "
                "that was saved without being gathered from its devices"
            )
    return [(entry, wanted[key]) for key, entry in entries.items()]


def padded_rows(vocabulary: int, tokens: int) -> int:
    """Rows of the embeddings: one per token, to a multiple of 64, as the hub's LLaVA-1.5 has them."""
    return math.ceil(max(vocabulary, tokens) / 64) * 64


def _first_of(keys: Collection[str]) -> str:
    first = next(iter(keys))
    return f"{first} is" if len(keys) == 1 else f"{first} and {len(keys) - 1} more are"
