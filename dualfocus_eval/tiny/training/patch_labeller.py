"""Classifies the patches of an image against the language model's own token embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualfocus_eval.tiny.training.patch_labels import SLOTS
from dualfocus_eval.training.encoding import IGNORED

__all__ = ["PatchLabeller", "single_token", "slot_maps", "whiten_patches"]

WEIGHTS = dict.fromkeys(SLOTS, 1.0) | {"name": 6.0, "mark_shape": 4.0} | dict.fromkeys(("x1", "y1", "x2", "y2"), 0.5)
"""Names are what questions refer to, and the slowest to learn; their gradient must not drown in the coordinates'.

Nor must that of a mark's shape, which has the most classes of what a mark is asked about.
"""


class PatchLabeller(nn.Module):
    """Classifies the projected patch features of a LLaVA against its own token embeddings, one linear map per slot.

    Scores are scaled cosines, as in CLIP. The map of ``name`` is the identity: an object's patches are drawn to the
    embedding of its name.
    """

    soft: Tensor

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.width = model.get_input_embeddings().embedding_dim
        self.maps = nn.Linear(self.width, (len(SLOTS) - 1) * self.width, bias=False)
        for slot, words in SLOTS.items():
            ids = [single_token(tokenizer, word) for word in words]
            self.register_buffer(f"{slot}_ids", torch.tensor(ids), persistent=False)
        # Neighbouring coordinates are nearly as right: a Gaussian of one hundredth of the image instead of one class.
        steps = torch.arange(101.0)
        self.register_buffer("soft", torch.softmax(-((steps[:, None] - steps) ** 2) / 2, dim=-1), persistent=False)
        self.log_scale = nn.Parameter(torch.full((len(SLOTS),), 2.3))

    def head_weights(self) -> dict[str, Tensor]:
        """What of the module is not the model: the next stage goes on with it if it is one of patch labels too."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("model.")}

    def load_head_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over another's `head_weights`. Raises ``RuntimeError`` when they are not all there or do not fit."""
        model = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        self.load_state_dict(model | dict(weights))

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Weighted mean of the slots' losses.

        ``pixel_values`` are (batch, 3, side, side), ``labels`` (batch, patches, slots).
        """
        features = torch.cat(tuple(self.model.get_image_features(pixel_values).pooler_output))  # (rows, width)
        labels = labels.flatten(0, 1)  # (rows, slots)
        objects = (labels[:, 0] != 0).nonzero().squeeze(1)
        grounds = (labels[:, 0] == 0).nonzero().squeeze(1)
        mapped = {False: self._mapped(features[grounds]), True: self._mapped(features[objects])}
        loss = WEIGHTS["name"] * self._loss("name", features, labels[:, 0])
        for position, slot in enumerate(SLOTS):
            if slot != "name":
                rows = grounds if slot == "place" else objects
                found = mapped[slot != "place"][:, position - 1]
                loss = loss + WEIGHTS[slot] * self._loss(slot, found, labels[rows, position])
        return {"loss": loss / sum(WEIGHTS.values())}

    def _mapped(self, features: Tensor) -> Tensor:
        mapped: Tensor = self.maps(features)
        return mapped.view(len(features), -1, self.width)  # (rows, slots - 1, width)

    def _loss(self, slot: str, features: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of one slot over the rows that have it; 0 where none has: ``features`` (rows, width)."""
        words = functional.normalize(self.model.get_input_embeddings()(getattr(self, f"{slot}_ids")), dim=-1)
        scale = self.log_scale[list(SLOTS).index(slot)].exp()
        logits = scale * functional.normalize(features, dim=-1) @ words.T  # (rows, words)
        known = targets != IGNORED
        if slot in ("x1", "y1", "x2", "y2"):
            losses = functional.cross_entropy(logits, self.soft[targets.clamp(min=0)], reduction="none")[known]
        else:
            losses = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
        return losses.sum() / known.sum().clamp(min=1)


def slot_maps(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The linear map of each slot but ``name``, (width, width), of a labeller's `head_weights`."""
    maps = heads["maps.weight"].chunk(len(SLOTS) - 1)
    return dict(zip(list(SLOTS)[1:], maps, strict=True))


@torch.no_grad()
def whiten_patches(model: Any, pixel_values: Tensor, floor: float = 0.01) -> None:
    """Start the patch embedding as the principal components of real patches, each scaled to unit variance.

    In a random start a patch is little more than its mean colour, since that is where nearly all of its variance is;
    textures and edges take thousands of steps to come out. ``pixel_values`` (batch, 3, side, side).
    """
    weight = model.vision_tower.embeddings.patch_embedding.weight  # (width, 3, patch, patch)
    patches = functional.unfold(pixel_values, weight.shape[-1], stride=weight.shape[-1]).transpose(1, 2).flatten(0, 1)
    variances, components = torch.linalg.eigh(torch.cov(patches.T))  # ascending
    chosen = components[:, -weight.shape[0] :] / (variances[-weight.shape[0] :] + floor).sqrt()
    weight.copy_(chosen.T.unflatten(1, weight.shape[1:]))


def single_token(tokenizer: Any, word: str) -> int:
    """Id of ``word``. Raises ``ValueError`` where the tokenizer takes it apart."""
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise ValueError(
            f"patch label {word!r} is {len(ids)} tokens, not one: it is missing from the tokenizer's corpus"
        )
    return int(ids[0])
