"""LLaVA models of a given size with random weights, and questions about random pictures, for measuring speed.

Random weights end no answer where one would like them to, write no box, and often answer both pathways alike. So
- the end token and whatever the tokenizer does not know have output weights of zero and are never the likeliest token,
  in whatever runs the model: every answer takes exactly the tokens that it may take;
- what is generated for Q1 is kept token for token, and read as a given box;
- the micro answer's last token is changed, so that the two candidates differ and both are scored.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Picture
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.prompts import grounding_prompt
from dualfocus_eval.method.question import Question
from measurements.random_models.llava import LLAVA_TEMPLATE
from measurements.random_models.parts import WORDS, byte_tokenizer

__all__ = ["ANSWER_TOKENS", "BOX_TOKENS", "PROMPT_SET", "SIZES", "ScriptedEngine", "apart", "build", "questions"]

PROMPT_SET = "released"
ANSWER_TOKENS = 4
BOX_TOKENS = 16
"""What `[0.25, 0.50, 0.75, 1.00]` takes in LLaVA's vocabulary, give or take a few."""


@dataclass(frozen=True)
class Size:
    """Widths and depths of a LLaVA."""

    vision: Mapping[str, int]
    text: Mapping[str, int]


SIZES: Mapping[str, Size] = {
    # For trying out the code path; four image tokens.
    "tiny": Size(
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 28,
        },
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 512,
        },
    ),
    # Vision encoder and output layer have about the share of the parameters that they have in LLaVA-1.5-7B.
    "100m": Size(
        {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4},
        {
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": 13,
            "num_attention_heads": 12,
            "vocab_size": 2048,
        },
    ),
    "7b": Size(
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 32064,
        },
    ),
}


def build(size: str, device: str, dtype: torch.dtype, seed: int = 0) -> tuple[Any, Any]:
    """(model, processor) of ``size``, with the weights drawn on ``device``; 336-pixel pictures take 576 tokens."""
    tokenizer = byte_tokenizer(("<s>", "</s>", "<image>"), "</s>", "<s>")
    vision = CLIPVisionConfig(**{"image_size": 336, "patch_size": 14, **SIZES[size].vision})
    side = vision.image_size
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**SIZES[size].text, max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id),
        image_token_index=processor.image_token_id,
        vision_feature_layer=-2,
        image_seq_length=(side // vision.patch_size) ** 2,
    )
    with torch.device(device):
        model = LlavaForConditionalGeneration._from_config(config, dtype=dtype)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                # Sharp attention: with a flat one, every question would get the same answer.
                spread = 1.8 if "q_proj" in name or "k_proj" in name else 1.2
                weight.normal_(0.0, spread / weight[0].numel() ** 0.5, generator=generator)
        model.lm_head.weight[len(tokenizer) :] = 0.0
        model.lm_head.weight[[tokenizer.eos_token_id, processor.image_token_id]] = 0.0
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
    return model.eval().requires_grad_(False), processor


def questions(images: int, per_image: int, seed: int) -> tuple[list[Question], dict[str, str]]:
    """Questions of seven to twelve words about pictures of 640 x 480, and the box to be written for each Q1."""
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    asked, boxes = [], {}
    for image in range(images):
        coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture = Picture(coarse.resize((640, 480), Image.Resampling.BICUBIC))
        for number in range(per_image):
            stem = " ".join(rng.choices(WORDS, k=rng.randint(7, 12))) + "?"
            x, y = rng.uniform(0.0, 0.6), rng.uniform(0.0, 0.6)
            box = Box(x, y, x + rng.uniform(0.1, 0.4), y + rng.uniform(0.1, 0.4))
            prompt = f"{stem}\nAnswer the question using a single word or phrase."
            question = Question(f"{image}/{number}", prompt, stem, (picture,), max_new_tokens=ANSWER_TOKENS)
            asked.append(question)
            boxes[grounding_prompt(question, PROMPT_SET)] = format_box(box, image_size=picture.pixels.size)
    return asked, boxes


def apart(candidate: tuple[int, ...], vocabulary: int) -> tuple[int, ...]:
    """The candidate with another last token, none of the three special ones that come first in the vocabulary."""
    *kept, last = candidate
    return (*kept, 3 + (last - 2) % (vocabulary - 3))


class ScriptedEngine(TransformersEngine):
    """The engine as it is, but boxes read as given and micro answers are set apart; see the module's docstring."""

    def __init__(
        self, checkpoint: Checkpoint, batch_size: int, prefix_cache_bytes: int, boxes: Mapping[str, str]
    ) -> None:
        super().__init__(checkpoint, batch_size, prefix_cache_bytes)
        self.boxes = boxes

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion | Failure]:
        """See `TransformersEngine.generate`."""
        results = super().generate(requests)
        vocabulary = len(self.checkpoint.processor.tokenizer)
        for number, (request, result) in enumerate(zip(requests, results, strict=True)):
            if isinstance(result, Failure):
                continue
            if any(message.role == "assistant" for message in request.conversation):
                ids = apart(result.token_ids, vocabulary)
                results[number] = replace(result, text=f"{result.text} (micro)", token_ids=ids)
            elif box := self.boxes.get(str(request.conversation[-1].content[-1])):
                results[number] = replace(result, text=box)
        return results
