"""The fewest floating-point operations in which two-pass inference can be done exactly.

Every distinct picture goes through the vision encoder once, no further than the layer whose output is used. Every
distinct token position (a token after the same tokens and pictures) goes through the decoder once and attends to itself
and to what is before it, nothing else. The output layer runs once for every position whose prediction is asked for.
A multiply-add counts as two, and only matrix products and convolutions count, as in torch's `FlopCounterMode`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualfocus_eval.engines.base import Picture
from dualfocus_eval.engines.rendering import Prompt

__all__ = ["Floor"]


@dataclass(eq=False)
class Floor:
    """Collects the positions that a run needs; ``model`` is a LLaVA."""

    model: Any
    pictures: set[Picture] = field(default_factory=set)
    nodes: dict[tuple[int, Hashable], int] = field(default_factory=dict)
    """Distinct positions as a tree: (number of the node before, token) to the node's own number."""
    depths: list[int] = field(default_factory=lambda: [0])
    """By node, how many tokens it attends to; node 0 is the empty beginning."""
    asked: set[int] = field(default_factory=set)
    """Nodes whose prediction is asked for."""

    def add(self, prompt: Prompt, answer: Sequence[int]) -> None:
        """``answer`` is generated or scored after ``prompt``. Its last token predicts nothing."""
        tokens: list[Hashable] = list(prompt.ids)
        for picture, (start, end) in zip(prompt.pictures, prompt.spans, strict=True):
            self.pictures.add(picture)
            tokens[start:end] = [(picture.key, index) for index in range(end - start)]
        node = 0
        for number, token in enumerate([*tokens, *answer[:-1]]):
            following = self.nodes.setdefault((node, token), len(self.depths))
            if following == len(self.depths):
                self.depths.append(self.depths[node] + 1)
            node = following
            if number >= len(tokens) - 1:
                self.asked.add(node)

    @property
    def flops(self) -> int:
        """The sum over all that was added."""
        return len(self.pictures) * picture_flops(self.model.config) + self._decoder_flops()

    def _decoder_flops(self) -> int:
        text = self.model.config.text_config
        attended = text.num_attention_heads * text.head_dim
        keys = text.num_key_value_heads * text.head_dim
        weights = text.hidden_size * (2 * attended + 2 * keys + 3 * text.intermediate_size)
        layers = text.num_hidden_layers * (2 * weights * len(self.nodes) + 4 * attended * sum(self.depths))
        return layers + 2 * text.hidden_size * text.vocab_size * len(self.asked)


def picture_flops(config: Any) -> int:
    """Of the vision encoder up to the layer that is used, and of the projector, for one picture."""
    vision, width = config.vision_config, config.text_config.hidden_size
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens, hidden = patches + 1, vision.hidden_size
    used = vision.num_hidden_layers + 1 + config.vision_feature_layer
    weights = 4 * hidden * hidden + 2 * hidden * vision.intermediate_size
    embedding = 2 * patches * vision.num_channels * vision.patch_size**2 * hidden
    layers = used * (2 * weights * tokens + 4 * tokens * tokens * hidden)
    return embedding + layers + 2 * patches * (hidden * width + width * width)
