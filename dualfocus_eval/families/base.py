"""What differs between model families: the box convention and frame, and how pictures and positions reach the model.

Nothing here imports torch; the hooks get tensors and return tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualfocus_eval.families.conventions import Convention

if TYPE_CHECKING:
    import torch

__all__ = ["Family", "ImageInputs", "concatenate"]


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """One picture as the checkpoint's processor hands it to the model, with no trace of other pictures of a batch."""

    tensors: Mapping[str, torch.Tensor]
    """The model's image arguments by name; the first dimension counts patches or images."""
    tokens: int
    """Image tokens that the picture takes in the prompt."""
    token_id: int
    """The placeholder token that is repeated ``tokens`` times."""


@dataclass(frozen=True)
class Family:
    """A family of checkpoints, found by the ``model_type`` of their configuration.

    ``encode`` turns the pictures of one call into one (tokens, hidden) tensor each, and must give a picture the same
    features whatever the others are. ``positions`` gives the (axes, length) position ids of a whole conversation from
    its length, its image spans and their inputs; without it they are 0, 1, 2, ...
    """

    model_type: str
    box_convention: Convention
    """How the checkpoints write a box; the default of ``Settings.box_convention``."""
    encode: Callable[[Any, Sequence[ImageInputs]], list[torch.Tensor]]
    encoded_size: Callable[[ImageInputs, Any], tuple[int, int]]
    """(width, height) in pixels at which the vision encoder sees the picture, from its inputs and the processor."""
    positions: Callable[[Any, int, Sequence[tuple[int, int]], Sequence[ImageInputs]], torch.Tensor] | None = None
    version: int = 1
    """Raised when a change of the family can change an answer, so that answers stored before are not reused."""
    box_frame: str = "image"
    """The default of ``Settings.box_frame``; a name in ``method.boxes.FRAMES``."""
    prompt_set: str = "released"
    """The default of ``Settings.prompt_set``; a name in ``method.prompts.PROMPT_SETS``."""
    prefix_reuse: bool = True
    """Whether attention is causal over the prompt and a picture's tokens depend on nothing that follows them."""
    pixel_limits: bool = False
    """Whether the processor takes ``min_pixels`` and ``max_pixels``."""
    vision_tower: str = "model.vision_tower"
    """Prefixes of the weights' names; what begins with none of the three is of the language model too (its head)."""
    connector: str = "model.multi_modal_projector"
    language_model: str = "model.language_model"
    training_template: str | None = None
    """For checkpoints whose chat template does not mark what the assistant generates, its end token included."""
    older_names: tuple[Mapping[str, str], ...] = ()
    """How the model's modules were named when adapters were saved earlier or for the language model alone: today's
    prefixes and theirs, one mapping for each naming. A module without an entry was not part of that model."""
    processor_values: Callable[[Any], Mapping[str, Any]] | None = None
    """What its processor must know of the model, from the model's configuration, where older checkpoints leave it out
    of processor_config.json; None for a value that the configuration does not tell."""
    pads_to_square: bool = False
    """Whether ``image_aspect=pad`` applies: the original model padded pictures where transformers' processor crops."""

    @property
    def name(self) -> str:
        """What it is registered under: its ``model_type``."""
        return self.model_type

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that it decides where nobody else does, by name."""
        return {
            "box_convention": self.box_convention.name,
            "box_frame": self.box_frame,
            "prompt_set": self.prompt_set,
        }


def concatenate(inputs: Sequence[ImageInputs]) -> dict[str, torch.Tensor]:
    """The tensors of several pictures joined along their first dimension, by argument name."""
    import torch

    return {name: torch.cat([item.tensors[name] for item in inputs]) for name in inputs[0].tensors}
