"""Conversations with guided attention: an answer's tokens are told where in the images their evidence is.

Naming a region means looking an object up by the question's noun and reading its box off the patches found. Left to
itself a small decoder finds that circuit only after a few hundred thousand examples. The scenes know which patches to
look at, so attention is taught it. In the first layer one head looks at the question's nouns. A quarter up, the heads
take turns to look at the patches of a box's object, the first for x1, the second for y1, and so on, since what a head
reads from a patch is the same wherever it looks from. Half-way up, they look at the evidence of a word: one for a
mark's colour, another for its shape, and so on; any of them where it does not matter what a patch looks like. And what
these heads are to read from a patch, the vision stages' classifiers already read: the heads start as those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_eval.tiny.training.scene_conversations import ASPECTS

__all__ = ["GUIDES", "GuidedLoss", "hand_over"]

BOX_SLOTS = ("x1", "y1", "x2", "y2")
"""The patch labels that the heads of the layer for boxes read, in the order of their turns."""
STRENGTH = 0.2
"""Root mean square of what a head adds to the residual stream at first: several times an embedding's."""
LOUDNESS = 8.0
"""How much the patches' features are raised over the vision stages', so that no layer drowns what they say."""
GUIDES = ("evidence", "subjects", "order", "weight", "grounding", "aspect")
"""What a batch of `ConversationCollator` holds beside the model's own inputs."""
TINY = 1e-6
"""Keeps a gradient where there is no attention yet."""
Attention = Tensor
"""(batch, heads, length, length)"""


@torch.no_grad()
def hand_over(model: Any, maps: Mapping[str, Tensor]) -> None:
    """Start the guided heads with the classifiers of patch labels: what a head sees, it can say.

    A head's value and output projections become the best approximation of its slot's map, (width, width), that their
    rank allows. The patches' features become `LOUDNESS` times as large.
    """
    for parameter in model.model.multi_modal_projector.linear_2.parameters():
        parameter *= LOUDNESS
    heads = model.config.text_config.num_attention_heads
    for layer, slots in zip(_guided_layers(model), (BOX_SLOTS, ASPECTS), strict=True):
        attention = model.model.language_model.layers[layer].self_attn
        size = attention.head_dim
        for head, slot in enumerate(slots[:heads]):
            left, spectrum, right = torch.linalg.svd(maps[slot])
            share = (STRENGTH * len(left) ** 0.5 / spectrum[:size].norm() * spectrum[:size]).sqrt()
            rows = slice(head * size, (head + 1) * size)
            attention.v_proj.weight[rows] = share[:, None] * right[:size]
            attention.o_proj.weight[:, rows] = left[:, :size] * share


def _guided_layers(model: Any) -> tuple[int, int]:
    """The layers whose heads look at a box's object and at the evidence of a word."""
    layers = model.config.text_config.num_hidden_layers
    return layers // 4, layers // 2


class GuidedLoss:
    """Next-token loss on the targets, every answer counting as much, plus ``weight`` times that of their attention."""

    def __init__(self, model: Any, weight: float) -> None:
        if weight:
            model.set_attn_implementation("eager")  # the only one that returns its attention
        self.layers, self.weight = _guided_layers(model), weight

    def __call__(self, model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` and, unless attention is left alone, its two parts, for a batch of `ConversationCollator`."""
        guides = {name: inputs[name] for name in GUIDES}
        plain = {name: value for name, value in inputs.items() if name not in (*GUIDES, "labels")}
        output = model(**plain, output_attentions=bool(self.weight))
        answers = _answer_loss(output.logits, inputs["labels"], guides["weight"])
        if not self.weight:
            return {"loss": answers}
        guidance = self._guidance_loss(output.attentions, guides)
        return {
            "loss": answers + self.weight * guidance,
            "answer_loss": answers.detach(),
            "guidance_loss": guidance.detach(),
        }

    def _guidance_loss(self, attentions: tuple[Attention, ...], guides: dict[str, Tensor]) -> Tensor:
        evidence, grounding, aspect = guides["evidence"], guides["grounding"], guides["aspect"]
        boxes, words = (attentions[layer] for layer in self.layers)
        coordinate = guides["order"] // 2  # the punctuation before it included
        weight = guides["weight"]
        return (
            _missed(attentions[0][:, 0], guides["subjects"], weight)
            + _taking_turns(boxes, evidence & grounding[..., None], coordinate, weight)
            + _taking_turns(words, evidence & (aspect >= 0)[..., None], aspect, weight)
            + _missed(words.mean(1), evidence & (~grounding & (aspect < 0))[..., None], weight)
        )


def _answer_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Mean over the answers of the mean cross-entropy of their tokens."""
    asked = weight > 0  # (batch, length): positions that predict a target
    losses = functional.cross_entropy(logits[asked], labels.roll(-1, 1)[asked], reduction="none")
    return _mean(losses, weight[asked])


def _missed(attention: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Mean negative log of the attention on what is wanted: ``attention``, ``wanted`` (batch, length, length)."""
    guided = wanted.any(-1)  # (batch, length)
    mass = (attention[guided] * wanted[guided]).sum(-1)
    return _mean(-(mass + TINY).log(), weight[guided])


def _taking_turns(attention: Attention, wanted: Tensor, turn: Tensor, weight: Tensor) -> Tensor:
    """Negative log of the attention on what is wanted by the head whose ``turn`` it is, and off it by the others."""
    guided = wanted.any(-1)  # (batch, length)
    mass = (attention.transpose(1, 2)[guided] * wanted[guided][:, None]).sum(-1)  # (rows, heads)
    chosen = functional.one_hot(turn[guided] % mass.shape[1], mass.shape[1])
    others = (1 - chosen) / max(mass.shape[1] - 1, 1)
    return _mean(-(chosen * (mass + TINY).log() + others * (1 - mass + TINY).log()).sum(-1), weight[guided])


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 of nothing."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)
