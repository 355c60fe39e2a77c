"""What differs between model families: the box convention and frame, and how pictures and positions reach the model.

Nothing here imports torch; the hooks get tensors and return tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dualfocus_eval.common.geometry import Size
from dualfocus_eval.families.conventions import Convention
from dualfocus_eval.families.grids import ImageGrid

if TYPE_CHECKING:
    import torch

__all__ = ["Family", "Forward", "ImageInputs", "ThinkingMarkers", "concatenate", "tile_size"]


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """One picture as the checkpoint's processor hands it to the model, with no trace of other pictures of a batch."""

    tensors: Mapping[str, torch.Tensor]
    """The model's image arguments by name; the first dimension counts patches or images."""
    ids: tuple[int, ...]
    """What stands for the picture in the prompt: its image tokens, and markers of rows or tiles where there are any."""
    token_id: int
    """The image token, in whose places the model puts the picture's features."""
    before: str = ""
    """Text that the processor puts before ``ids``."""
    after: str = ""
    """Text that it puts after them."""

    @property
    def tokens(self) -> int:
        """Image tokens that the picture takes in the prompt."""
        return self.ids.count(self.token_id)


@dataclass(frozen=True, eq=False)
class Forward:
    """One forward pass over the latest tokens of a batch, all right-aligned."""

    ids: torch.Tensor
    """(rows, length); 0 in the padding."""
    embeds: torch.Tensor
    """(rows, length, hidden), with the pictures' features in place of their image tokens."""
    positions: torch.Tensor
    """(axes, rows, length)."""
    mask: Any
    """(rows, all tokens): True for a token of the row, earlier ones included. For models with sliding windows or
    bidirectional images what `engines.masks` makes of it."""
    cache: Any
    """The states of the earlier tokens, to which those of these tokens are added."""
    keep: int
    """Logits are wanted at the last ``keep`` tokens."""
    deep: torch.Tensor | None = None
    """(rows, length, further features): what ``Family.encode`` gives beyond the hidden size; zero outside pictures."""

    def arguments(self) -> dict[str, Any]:
        """As a transformers model takes them, but for ``deep``."""
        return {
            "inputs_embeds": self.embeds,
            "attention_mask": self.mask,
            "position_ids": self.positions[0] if len(self.positions) == 1 else self.positions,
            "past_key_values": self.cache,
            "use_cache": True,
            "logits_to_keep": self.keep,
        }


@dataclass(frozen=True)
class ThinkingMarkers:
    """What checkpoints write around their thinking, and some around their answer.

    Of a checkpoint whose tokenizer and chat template do not have them they are mere text.
    """

    opening: str = "<think>"
    closing: str = "</think>"
    answer_opening: str = "<answer>"
    """GLM-4.1V-Thinking's; they count where the tokenizer has them as tokens."""
    answer_closing: str = "</answer>"


@dataclass(frozen=True)
class Family:
    """A family of checkpoints, found by the ``model_type`` of their configuration.

    ``encode`` turns the pictures of one call into one (tokens, hidden) tensor each, and must give a picture the same
    features whatever the others are. What goes beyond the hidden size of the language model reaches ``forward`` as
    `Forward.deep`. ``positions`` gives the (axes, length) position ids of a whole conversation from its length, the
    spans of its image tokens and their inputs; without it they are 0, 1, 2, ...
    """

    model_type: str
    box_convention: Convention
    """How the checkpoints write a box; the default of ``Settings.box_convention``."""
    encode: Callable[[Any, Sequence[ImageInputs]], list[torch.Tensor]]
    encoded_size: Callable[[ImageInputs, Any], tuple[int, int]]
    """(width, height) in pixels at which the vision encoder sees the picture, from its inputs and the processor."""
    grid: Callable[[ImageInputs, Any, Size], ImageGrid] | None = None
    """Where a picture's tokens lie in it, from its inputs, the processor, and its (width, height) in pixels. None where
    that is not known: then ``grounding=attention`` is refused."""
    positions: Callable[[Any, int, Sequence[tuple[int, int]], Sequence[ImageInputs]], torch.Tensor] | None = None
    forward: Callable[[Any, Forward], torch.Tensor] | None = None
    """Logits (rows, keep, vocabulary) of a pass, for models that need more than `Forward.arguments`."""
    version: int = 1
    """Raised when a change of the family can change an answer, so that answers stored before are not reused."""
    box_frame: str = "image"
    """The default of ``Settings.box_frame``; a name in ``method.boxes.FRAMES``."""
    prompt_set: str = "released"
    """The default of ``Settings.prompt_set``; a name in ``method.prompts.PROMPT_SETS``."""
    bidirectional_images: Callable[[Any], Set[str]] | None = None
    """Types of the layers in which the tokens of an image attend to one another, from the text configuration."""
    thinking: ThinkingMarkers = ThinkingMarkers()
    """How those of its checkpoints that think before they answer mark it."""
    answer_marks: tuple[str, ...] = ()
    """What its checkpoints write around the words that count in an answer; no part of the text that is scored."""
    no_reuse: str | None = None
    """Why the states of a prompt's beginning cannot serve another prompt, where they cannot: a token attends to a later
    one outside its own image, or a picture's tokens depend on what follows them. The run's summary prints it."""
    local_patch: Callable[[ImageInputs, Any], ImageInputs] | None = None
    """From the inputs of a picture and the processor: the picture as one more local patch of the picture before it, as
    ``encode`` takes it; None where pictures have no local patches of a fixed size."""
    tiles_by_count: bool = False
    """Whether a picture alone in its conversation is cut into more tiles than one of several; see `limited_reuse`."""
    pixel_limits: bool = False
    """Whether the processor takes ``min_pixels`` and ``max_pixels``."""
    vision_tower: str = "model.vision_tower"
    """Prefixes of the weights' names; what begins with none of the three is of the language model too (its head)."""
    connector: str = "model.multi_modal_projector"
    further_connectors: tuple[str, ...] = ()
    """Prefixes of other modules between vision encoder and language model."""
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
    engine: Literal["in_process", "generate"] = "in_process"
    """What runs its checkpoints: the engine that uses the hooks above, or transformers' ``generate`` alone."""
    trained_boxes: bool | None = True
    """Whether its checkpoints were trained to write boxes; None where that is not known. Runs warn of all but True."""
    title: str = ""
    """What its authors call the models, for the documentation's list."""
    example: str = ""
    """One of its checkpoints on the hub, likewise."""

    @property
    def name(self) -> str:
        """What it is registered under: its ``model_type``."""
        return self.model_type

    def unmarked(self, text: str) -> str:
        """``text`` without `answer_marks`."""
        for mark in self.answer_marks:
            text = text.replace(mark, "")
        return text

    @property
    def limited_reuse(self) -> str | None:
        """Why the second pass cannot reuse the first one's states, where it cannot. The run's summary prints it."""
        return "an image is cut into fewer tiles when its crop follows it" if self.tiles_by_count else None

    @property
    def connectors(self) -> tuple[str, ...]:
        """Prefixes of all that is between vision encoder and language model."""
        return (self.connector, *self.further_connectors)

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


def tile_size(inputs: ImageInputs, processor: Any) -> tuple[int, int]:
    """(width, height) of a tile, and of the thumbnail, in which the vision encoder sees the whole picture.

    For `Family.encoded_size`, of processors that do not tell how many rows and columns of tiles there are.
    """
    height, width = inputs.tensors["pixel_values"].shape[-2:]
    return width, height
