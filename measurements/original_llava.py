"""Small checkpoints with random weights in the original LLaVA layout, and an independent forward pass over them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = [
    "IMAGE",
    "IMAGE_SIDE",
    "PATCH",
    "TEXT",
    "Original",
    "build_original",
    "config",
    "write_checkpoint",
    "write_tokenizer",
    "write_weights",
]

IMAGE_SIDE, PATCH = 28, 7
VISION_WIDTH, WIDTH = 32, 48
IMAGE = -200
"""What stands for an image among the token ids, as in the original code."""


@dataclass(frozen=True, eq=False)
class Original:
    """The three parts of the original model."""

    tower: CLIPVisionModel
    projector: nn.Sequential
    decoder: LlamaForCausalLM

    def logits(self, ids: Sequence[int], pixels: Tensor) -> Tensor:
        """(length, tokens): the projected patches of each image, ``pixels`` (images, 3, side, side), replace its id."""
        with torch.no_grad():
            states = self.tower(pixel_values=pixels, output_hidden_states=True).hidden_states
            features = iter(self.projector(states[-2][:, 1:]))
            embed = self.decoder.get_input_embeddings()
            rows = [next(features) if number == IMAGE else embed(torch.tensor([number])) for number in ids]
            return self.decoder(inputs_embeds=torch.cat(rows)[None]).logits[0]

    def state(self, with_tower: bool) -> dict[str, Tensor]:
        """All weights under the original layout's keys, a buffer of older versions among them."""
        weights = dict(self.decoder.state_dict())
        weights |= {f"model.mm_projector.{key}": value for key, value in self.projector.state_dict().items()}
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
        if with_tower:
            prefix = "model.vision_tower.vision_tower.vision_model."
            weights |= {prefix + key: value for key, value in self.tower.state_dict().items()}
            weights[f"{prefix}embeddings.position_ids"] = torch.arange(17)[None]
        return weights


def build_original(vocabulary: int, seed: int = 0) -> Original:
    """A random model; weights are spread so that logits are of the order of one."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=IMAGE_SIDE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_theta=5000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    projector = nn.Sequential(nn.Linear(VISION_WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
    model = Original(CLIPVisionModel(vision).eval(), projector.eval(), LlamaForCausalLM(text).eval())
    with torch.no_grad():
        for part in (model.tower, model.projector, model.decoder):
            for weight in part.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=0.2)
                else:
                    weight.add_(torch.randn_like(weight) * 0.05)
    return model


def config(**changes: object) -> dict[str, object]:
    """config.json of ``build_original``, as LLaVA-1.5's reads, with ``changes`` (and ``vocab_size``); None removes."""
    content = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000.0,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_mm_proj": True,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": VISION_WIDTH,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    }
    return {key: value for key, value in (content | changes).items() if value is not None or key == "rope_scaling"}


def write_weights(folder: Path, weights: dict[str, Tensor], suffix: str, shards: int) -> None:
    """``weights`` in that many files, with an index where they are several."""
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    index: dict[str, str] = {}
    keys = list(weights)
    for number in range(shards):
        chosen = {key: weights[key].contiguous() for key in keys[number::shards]}
        name = f"{stem}-{number + 1:05}-of-{shards:05}.{suffix}" if shards > 1 else f"{stem}.{suffix}"
        if suffix == "safetensors":
            save_file(chosen, folder / name, metadata={"format": "pt"})
        else:
            torch.save(chosen, folder / name)
        index |= dict.fromkeys(chosen, name)
    if shards > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def write_tokenizer(folder: Path) -> int:
    """A tokenizer.json of Llama's kind, spaces as ``▁`` and bytes for what is unknown; returns its size."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", left=1)]
    )
    alphabet = [chr(number) for number in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))],
        initial_alphabet=["▁", *alphabet],
        show_progress=False,
    )
    backend.train_from_iterator([TEXT] * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=2048
    )
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


TEXT = (
    "A chat between a curious user and an artificial intelligence assistant. USER: ASSISTANT: Please provide the "
    "bounding box coordinate of the region this question asks: what colour is it? [0.12, 0.34, 0.56, 0.78]"
)


def write_checkpoint(
    folder: Path, *, suffix: str = "safetensors", shards: int = 3, with_tower: bool = True, **changes: object
) -> Original:
    """A complete checkpoint in the original layout; ``folder / "tower"`` is its vision tower's."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder)
    model = build_original(vocabulary)
    (folder / "config.json").write_text(json.dumps(config(**{"vocab_size": vocabulary, **changes})))
    write_weights(folder, model.state(with_tower), suffix, shards)
    model.tower.save_pretrained(folder / "tower")
    return model
