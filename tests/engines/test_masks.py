"""Masks of sliding windows and bidirectional images: transformers' own without gaps, and the same with gaps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Llama4TextConfig, LlavaForConditionalGeneration, MistralConfig
from transformers.masking_utils import create_masks_for_generate
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.gemma4 import modeling_gemma4

from dualfocus_eval.common.errors import CheckpointError, UserError
from dualfocus_eval.engines.checkpoint import Checkpoint, prepare
from dualfocus_eval.engines.image_inputs import image_inputs
from dualfocus_eval.engines.masks import AttentionMasks, LayerMask, attention_masks
from dualfocus_eval.families import FAMILIES
from measurements.exactness import compare
from measurements.plain_reference import reference
from measurements.random_models import ARCHITECTURES, build
from measurements.random_models.gemma import gemma4

KERNELS = ["sdpa", "eager"]
IMAGES = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0]], dtype=torch.bool)


def with_kernel(config: Any, kernel: str) -> Any:
    config = copy.deepcopy(config)
    config.get_text_config()._attn_implementation = kernel
    return config


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("architecture", ["gemma3", "gemma4"])
def test_without_gaps_they_are_transformers_own(
    checkpoint_of: Callable[..., Checkpoint], architecture: str, kernel: str
) -> None:
    config = with_kernel(checkpoint_of(architecture).model.config, kernel)
    config.get_text_config().sliding_window = 4
    masks = attention_masks(config, FAMILIES[architecture], architecture)
    assert masks is not None
    own: Any = {"gemma3": modeling_gemma3, "gemma4": modeling_gemma4}[architecture]
    length = IMAGES.shape[1]
    expected = own.create_masks_for_vision_model(
        config=config.get_text_config(),
        inputs_embeds=torch.zeros(1, length, 1),
        attention_mask=torch.ones(1, length),
        past_key_values=None,
        position_ids=torch.arange(length).unsqueeze(0),
        block_sequence_ids=own.get_block_sequence_ids_for_mask(IMAGES.int(), device=IMAGES.device),
    )
    found = masks.build(torch.ones(1, length, dtype=torch.bool), IMAGES, torch.float32)
    assert found.keys() == expected.keys()
    # None is transformers' short form of a causal mask.
    causal = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    for kind, mask in expected.items():
        assert torch.equal(found[kind], causal if mask is None else mask)


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_mask_for_a_model_without_types_of_layers(kernel: str) -> None:
    config = with_kernel(MistralConfig(sliding_window=4), kernel)
    masks = attention_masks(config, FAMILIES["llava"], "mistral")
    assert masks is not None
    expected = create_masks_for_generate(config, torch.zeros(1, 14, 1), torch.ones(1, 14), None)
    assert torch.equal(masks.build(torch.ones(1, 14, dtype=torch.bool), IMAGES, torch.float32), expected)


@st.composite
def _slots(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """The slots of one row that hold tokens, and which of the latest ones are an image's."""
    tokens = torch.tensor(draw(st.lists(st.booleans(), min_size=2, max_size=24)))
    length = draw(st.integers(1, len(tokens)))
    images = torch.tensor(draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    tokens[-1] = True  # rows are right-aligned
    # Within what a pass computes all gaps lie at the beginning.
    begun = tokens[len(tokens) - length :].cumsum(0) > 0
    tokens[len(tokens) - length :] = begun
    return tokens, images & begun


@given(_slots(), st.integers(1, 12) | st.none(), st.booleans())
@settings(max_examples=200)
def test_gaps_change_nothing(row: tuple[torch.Tensor, torch.Tensor], window: int | None, bidirectional: bool) -> None:
    tokens, images = row
    masks = AttentionMasks({"kind": LayerMask(window, bidirectional)}, by_type=False, additive=False)
    found = masks.build(tokens.unsqueeze(0), images.unsqueeze(0), torch.float32)[0, 0]  # (length, slots)
    computed = tokens[len(tokens) - len(images) :]
    assert found.any(dim=1).all()  # a row of padding attends to something: no NaN
    together = images[computed]
    without = masks.build(torch.ones(1, int(tokens.sum()), dtype=torch.bool), together.unsqueeze(0), torch.float32)[
        0, 0
    ]
    assert torch.equal(found[computed][:, tokens], without)
    assert not found[computed][:, ~tokens].any()


def _mistral() -> tuple[Any, Any]:
    model, processor = ARCHITECTURES["llava"]()
    config = model.config
    config.text_config = MistralConfig(
        vocab_size=config.text_config.vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=config.text_config.eos_token_id,
        sliding_window=12,
    )
    return LlavaForConditionalGeneration(config), processor


def _eager() -> tuple[Any, Any]:
    model, processor = ARCHITECTURES["gemma3"]()
    model.set_attn_implementation("eager")
    return model, processor


def _pan_and_scan() -> tuple[Any, Any]:
    """An image, then crops of it, each with markers of its own and text between them."""
    model, processor = ARCHITECTURES["gemma3"]()
    settings = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 8}
    processor.images_kwargs = processor.images_kwargs | settings  # these win over the image processor's own
    assert image_inputs(processor, Image.new("RGB", (90, 30))).tokens == 4 * processor.image_seq_length
    return model, processor


VARIANTS: dict[str, tuple[str, Callable[[], tuple[Any, Any]]]] = {
    "a Mistral with a sliding window": ("llava", _mistral),
    "eager attention": ("gemma3", _eager),
    "pan and scan": ("gemma3", _pan_and_scan),
    "causal images, as in Gemma 4 E2B": ("gemma4", lambda: gemma4(use_bidirectional_attention=None)),
    "experts, as in Gemma 4 26B-A4B": (
        "gemma4",
        lambda: gemma4(
            hidden_size_per_layer_input=0,
            num_kv_shared_layers=0,
            attention_k_eq_v=True,
            num_global_key_value_heads=1,
            enable_moe_block=True,
            num_experts=4,
            top_k_experts=2,
            moe_intermediate_size=32,
        ),
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_agree_with_plain_generate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, builder = VARIANTS[name]
    monkeypatch.setitem(ARCHITECTURES, name, builder)
    checkpoint = prepare(*build(name), FAMILIES[family], name)
    assert checkpoint.masks is not None
    expected = reference(checkpoint, count=2, longest=6)
    result = compare(checkpoint, expected, batch_size=3, cache="on")
    assert result.holds(exact=False), result
    assert result.reused > 0


def test_kernels_without_such_masks_are_refused(checkpoint_of: Callable[..., Checkpoint]) -> None:
    config = with_kernel(checkpoint_of("gemma3").model.config, "flash_attention_2")
    with pytest.raises(UserError, match=r"flash_attention_2 does not apply to some/model: .* use sdpa or eager"):
        attention_masks(config, FAMILIES["gemma3"], "some/model")


def test_layers_without_a_mask_are_refused(checkpoint_of: Callable[..., Checkpoint]) -> None:
    config = copy.deepcopy(checkpoint_of("gemma3").model.config)
    config.text_config.layer_types[0] = "chunked_attention"
    with pytest.raises(CheckpointError, match=r"some/model: its decoder has layers of type chunked_attention, which"):
        attention_masks(config, FAMILIES["gemma3"], "some/model")
    with pytest.raises(CheckpointError, match=r"some/model: its decoder has layers of type chunked_attention, which"):
        attention_masks(Llama4TextConfig(attention_chunk_size=8), FAMILIES["llava"], "some/model")


def test_a_family_without_windows_needs_no_such_masks(checkpoint_of: Callable[..., Checkpoint]) -> None:
    for architecture in ("llava", "qwen2_5_vl"):
        assert checkpoint_of(architecture).masks is None
    text = checkpoint_of("gemma4").model.config.get_text_config()
    assert FAMILIES["gemma4"].bidirectional_images is not None
    assert FAMILIES["gemma4"].bidirectional_images(text) == {"sliding_attention"}
    config = copy.deepcopy(checkpoint_of("llava").model.config)
    both = replace(FAMILIES["llava"], bidirectional_images=lambda text: {"full_attention"})
    masks = attention_masks(config, both, "llava")
    assert masks is not None
    assert masks.layers == {"full_attention": LayerMask(None, bidirectional_images=True)}
