"""Changes of a saved random LLaVA (`tests.random_checkpoints`), by what they change: such as alter an answer, and such
as do not.

Each is a function of the checkpoint's folder, which it changes in place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

__all__ = ["CHANGES", "HARMLESS", "Change", "byte", "configuration", "weights"]

Change = Callable[[Path], object]

EMBEDDING = "language_model.model.embed_tokens.weight"
MATRIX = "language_model.model.layers.1.self_attn.q_proj.weight"


def byte(place: int, name: str = "model.safetensors") -> Change:
    """Flip the lowest bit of one byte."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 1
        (folder / name).write_bytes(content)

    return change


def first_weight_byte(folder: Path) -> None:
    header = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    byte(8 + header)(folder)


def weights(edit: Callable[[dict[str, torch.Tensor]], object], name: str = "model.safetensors") -> Change:
    """Change tensors in place."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / name)
        edit(tensors)
        save_file(tensors, folder / name, metadata={"format": "pt"})

    return change


def _exchanged_rows(tensors: dict[str, torch.Tensor]) -> None:
    tensors[EMBEDDING][[100, 101]] = tensors[EMBEDDING][[101, 100]]


def configuration(name: str, *keys: str | int, **values: Any) -> Change:
    """Set ``values`` in the object at ``keys`` of a JSON file."""

    def edit(content: Any) -> None:
        for key in keys:
            content = content[key]
        content.update(values)

    return _json(name, edit)


def _json(name: str, edit: Callable[[Any], object]) -> Change:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        edit(content)
        (folder / name).write_text(json.dumps(content))

    return change


def _tokenizer(edit: Callable[[Any], object]) -> Change:
    return _json("tokenizer.json", edit)


def _exchanged_ids(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    first, second = (token for token, number in vocabulary.items() if number in (300, 301))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def written(name: str, text: str) -> Change:
    """Write a file."""

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


def _reworded_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("ASSISTANT:", "ANSWER:"))


CHANGES: dict[str, Change] = {
    "first weight byte": first_weight_byte,
    "last weight byte": byte(-1),
    "embedding rows exchanged": weights(_exchanged_rows),
    "embedding row zeroed": weights(lambda tensors: tensors[EMBEDDING][400].zero_()),
    "output row zeroed": weights(lambda tensors: tensors["language_model.lm_head.weight"][400].zero_()),
    "pruned beyond the first column": weights(lambda tensors: tensors[MATRIX][:, 1:].zero_()),
    "one weight of the vision encoder": weights(
        lambda tensors: tensors["vision_tower.encoder.layers.0.mlp.fc1.weight"][7, 7].add_(1)
    ),
    "one weight of the projector": weights(lambda tensors: tensors["multi_modal_projector.linear_1.bias"][7].add_(1)),
    "norm's epsilon": configuration("config.json", "text_config", rms_norm_eps=1e-3),
    "rotary base": configuration("config.json", "text_config", "rope_parameters", rope_theta=500.0),
    "activation": configuration("config.json", "vision_config", hidden_act="gelu"),
    "feature layer": configuration("config.json", vision_feature_layer=-1),
    "stored precision": configuration("config.json", dtype="bfloat16"),
    "end tokens": configuration("generation_config.json", eos_token_id=[1, 300]),
    "repetition penalty": configuration("generation_config.json", repetition_penalty=1.3),
    "forbidden tokens": configuration("generation_config.json", suppress_tokens=[300, 301]),
    "normalizer": _tokenizer(lambda content: content.update(normalizer={"type": "Lowercase"})),
    "pre-tokenizer": _tokenizer(lambda content: content["pre_tokenizer"].update(add_prefix_space=True)),
    "merges": _tokenizer(lambda content: content["model"]["merges"].reverse()),
    "post-processor": _tokenizer(lambda content: content.update(post_processor=None)),
    "decoder": _tokenizer(lambda content: content.update(decoder={"type": "Fuse"})),
    "flag of an added token": _tokenizer(lambda content: content["added_tokens"][-1].update(lstrip=True)),
    "an added token less": _tokenizer(lambda content: content["added_tokens"].pop()),
    "ids exchanged": _tokenizer(_exchanged_ids),
    "truncation": _tokenizer(
        lambda content: content.update(
            truncation={"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
        )
    ),
    "end token of the tokenizer": configuration("tokenizer_config.json", eos_token="<s>"),
    "patch size": configuration("processor_config.json", patch_size=12),
    "feature selection": configuration("processor_config.json", vision_feature_select_strategy="full"),
    "additional image tokens": configuration("processor_config.json", num_additional_image_tokens=0),
    "image mean": configuration("processor_config.json", "image_processor", image_mean=[0.5, 0.5, 0.5]),
    "image standard deviation": configuration("processor_config.json", "image_processor", image_std=[0.5, 0.5, 0.5]),
    "resampling": configuration("processor_config.json", "image_processor", resample=0),
    "chat template": _reworded_template,
    "chat template's white space": lambda folder: (folder / "chat_template.jinja").open("a").write(" "),
    "a named chat template": written("additional_chat_templates/other.jinja", "{{ messages }}"),
    "an older chat template": written("chat_template.json", '{"chat_template": "{{ messages }}"}'),
    "an image processor's own file": written("preprocessor_config.json", '{"do_resize": false}'),
    "a map of special tokens": written("special_tokens_map.json", '{"eos_token": "<s>"}'),
    "added tokens": written("added_tokens.json", '{"<new>": 468}'),
    "a vocabulary file": written("vocab.json", "{}"),
    "merges in a file": written("merges.txt", "a b\n"),
    "a SentencePiece model": written("tokenizer.model", "x"),
    "an embedded adapter": written("adapter_model.safetensors", "x"),
    "a pickled embedded adapter": written("adapter_model.bin", "x"),
    "a file of an unknown kind": written("new_kind.cfg", "x"),
}
"""By what they change: each may change an answer."""


def _aged(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))


def _spread_out(folder: Path) -> None:
    for name in ("config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(dict(reversed(content.items())), indent=7) + "\n\n")


HARMLESS: dict[str, Change] = {
    "version in config.json": configuration("config.json", transformers_version="4.37.0"),
    "version in a part of config.json": configuration("config.json", "text_config", transformers_version="4.37.0"),
    "version in generation_config.json": configuration("generation_config.json", transformers_version="4.37.0"),
    "where it was saved": configuration("config.json", _name_or_path="/somewhere/else"),
    "where its parts were saved": configuration("config.json", "vision_config", _name_or_path="/somewhere/else"),
    "how its tokenizer was read": configuration("tokenizer_config.json", is_local=True, name_or_path="/somewhere/else"),
    "file times": _aged,
    "file modes": lambda folder: (folder / "model.safetensors").chmod(0o600),
    "white space and order of keys": _spread_out,
    "folder name": lambda folder: folder.rename(folder.with_name("renamed")),
    "a page about it": written("README.md", "# Better than ever"),
    "its provenance": written("dualfocus.json", '{"provenance": {"python": "3.12"}}'),
    "its calibrated choice": written("calibration.json", "{}"),
    "its training": written("trainer_state.json", "{}"),
    "a later checkpoint inside": written("checkpoint-500/model.safetensors", "x"),
    "code that is not run": written("modeling_other.py", "print(1)"),
    "weights in a format that is not loaded": written("pytorch_model.bin", "x"),
    "hidden files": written(".gitattributes", "*.safetensors filter=lfs"),
}
"""None of these can change an answer."""
