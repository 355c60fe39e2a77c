"""A small LLaVA from nothing: tokenizer, processor and randomly initialised model of a recipe's ``model`` section."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from dualfocus_eval.common.validation import CLOSED
from dualfocus_eval.training.tuning import Count

if TYPE_CHECKING:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

__all__ = ["ModelShape", "build_config", "build_model", "build_processor", "build_tokenizer"]

# The generation markers make transformers return a mask of the assistant's own tokens: the answer and its end token.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}ASSISTANT: {% generation %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "</s>{% endgeneration %}"
    "{% else %}{% if message['role'] == 'user' %}USER: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{{ '\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)

# Words with their leading space are one token each, and so is a coordinate with two decimals: grounding then predicts
# four tokens and not four runs of digits.
PRETOKENS = r"(?:USER|ASSISTANT): |, (?=\d)|\d\.\d\d| ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]|\s"
SPECIAL_TOKENS = ("<pad>", "</s>", "<image>")


@dataclass(frozen=True, config=CLOSED)
class ModelShape:
    """Sizes of the vision encoder and the decoder, in the terms of transformers' CLIP and Llama configurations."""

    image_size: Count = 112
    patch_size: Count = 14
    vision_width: Count = 192
    vision_layers: Count = 6
    vision_heads: Count = 4
    text_width: Count = 256
    text_layers: Count = 4
    text_heads: Count = 4
    text_mlp: Count = 704
    max_positions: Count = 2048


def build_tokenizer(corpus: Iterable[str], phrases: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Byte-level BPE over ``corpus``: every word of it becomes one token, and any other text still has an encoding.

    Each of ``phrases``, the instructions that every prompt repeats, is one token as well: a third fewer to train on.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens(list(phrases))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast, shape: ModelShape) -> LlavaProcessor:
    """LLaVA's processor; images are resized to the encoder's square without cropping, so that no border is lost."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    side = {"height": shape.image_size, "width": shape.image_size}
    image_processor = CLIPImageProcessor(size=side, do_center_crop=False, crop_size=side)
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=shape.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(tokenizer: PreTrainedTokenizerFast, shape: ModelShape) -> LlavaConfig:
    """The architecture of ``shape`` for the vocabulary of ``tokenizer``."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision = CLIPVisionConfig(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        hidden_size=shape.vision_width,
        intermediate_size=4 * shape.vision_width,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        projection_dim=shape.vision_width,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=shape.text_width,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.text_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(shape.image_size // shape.patch_size) ** 2,
        tie_word_embeddings=True,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, shape: ModelShape) -> LlavaForConditionalGeneration:
    """A randomly initialised LLaVA in float32; seed torch before."""
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration(build_config(tokenizer, shape))
    _place_patches(model.model.vision_tower, shape)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _place_patches(vision_tower: Any, shape: ModelShape) -> None:
    """Start the patches' position embeddings as sines and cosines of row and column, about as strong as the pixels.

    CLIP's own start is noise of one twenty-fifth of that strength, from which an encoder this small needs thousands of
    steps to find out where a patch is.
    """
    import torch

    grid, quarter = shape.image_size // shape.patch_size, shape.vision_width // 4
    angles = torch.arange(grid)[:, None] * torch.pi / grid * torch.linspace(0.5, grid / 2, quarter)[None, :]
    axis = torch.cat([angles.sin(), angles.cos()], dim=-1)  # (grid, width / 2)
    rows, columns = axis[:, None].expand(-1, grid, -1), axis[None].expand(grid, -1, -1)
    with torch.no_grad():
        positions = vision_tower.embeddings.position_embedding.weight  # (1 + grid * grid, width)
        positions[1:] = 0.5 * torch.cat([rows, columns], dim=-1).flatten(0, 1)
