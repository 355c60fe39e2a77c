"""The seam of grounding: from a question and its image to a region, or to a named reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dualfocus_eval.common.geometry import Box
from dualfocus_eval.engines.base import Completion, Conversation, Engine, Failure, GenerateRequest
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.question import Question

__all__ = [
    "EngineBound",
    "Exchange",
    "GroundingInput",
    "GroundingMethod",
    "GroundingSettings",
    "NoRegion",
    "OwnModel",
    "Region",
]


@dataclass(frozen=True)
class Exchange:
    """A conversation and what the model replied to it."""

    conversation: Conversation
    response: Completion


@dataclass(frozen=True)
class GroundingInput:
    """A question with exactly one image, and the replies to what the method requested for it."""

    question: Question
    replies: tuple[Exchange | Failure, ...] = ()
    """One for each of the method's requests, in their order."""


@dataclass(frozen=True)
class Region:
    """Where to look again. Its numbers may be of NumPy or PyTorch; they become Python's, since the record is JSON.

    Raises ValueError for a box that is empty or not within the image, TypeError for an outcome that is no text.
    """

    box: Box
    outcome: str = "ok"
    """What became of the method's finding, for the record, e.g. that the box was cut to the image."""
    exchange: Exchange | None = None
    """How the model named the region, where it did so in words: a second pass may continue this conversation."""

    def __post_init__(self) -> None:
        _refuse_no_text(self.outcome)
        box = Box(*(float(corner) for corner in self.box.corners))
        object.__setattr__(self, "box", box)
        if not (0 <= box.x1 < box.x2 <= 1 and 0 <= box.y1 < box.y2 <= 1):
            raise ValueError(f"{box} is not a region of the image: it must be within 0 to 1, and not empty")


@dataclass(frozen=True)
class NoRegion:
    """There is none: the question has the macro answer. Raises TypeError for a reason that is no text."""

    reason: str
    """A short stable name that runs count by: the question's ``fallback``."""
    exchange: Exchange | None = None
    cause: Failure | None = None
    """The failure that it is due to. Such a question is answered again in the next run."""

    def __post_init__(self) -> None:
        _refuse_no_text(self.reason)


def _refuse_no_text(name: object) -> None:
    """What a run counts by must be a name, or its record could not be read back."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"{name!r} is not a name")


class GroundingSettings(Protocol):
    """What a grounding method may go by, of the run's `settings.Settings`."""

    @property
    def prompt_set(self) -> str: ...
    @property
    def box_convention(self) -> str: ...
    @property
    def box_frame(self) -> str: ...
    @property
    def jitter(self) -> float: ...
    @property
    def jitter_seed(self) -> int: ...
    @property
    def max_box_tokens(self) -> int: ...
    @property
    def max_thinking_tokens(self) -> int: ...
    @property
    def attention_layer(self) -> int | None: ...
    @property
    def detector(self) -> str | None: ...
    @property
    def tiles(self) -> str: ...
    @property
    def joined_tiles(self) -> int: ...


@runtime_checkable
class EngineBound(Protocol):
    """A grounding method or second pass that not every engine or model can do has this too: a run is refused before it
    begins."""

    def problem(self, engine: RunEngine, settings: GroundingSettings) -> str | None:
        """Why it cannot be done, with what to do; None where it can."""
        ...


@runtime_checkable
class OwnModel(Protocol):
    """A grounding method that runs a model of its own has this too, so that stored answers go by its content."""

    def digest(self, settings: GroundingSettings) -> str:
        """Stands for the content of the model that ``settings`` name. Raises ``UserError`` where it cannot be used."""
        ...


class GroundingMethod(Protocol):
    """Chooses the regions of a batch of questions.

    To add a method is to write one module with such an object and to register it: in ``grounding/__init__.py``, or from
    another package under the entry-point group ``dualfocus_eval.grounding``. What it raises costs only the questions at
    fault, each of which is then asked for alone.

    A method that not every engine or model can do is also an `EngineBound`; one that runs a model of its own, an
    `OwnModel`.
    """

    @property
    def name(self) -> str:
        """What a user writes: ``grounding=NAME``; a word of letters, digits and underscores."""
        ...

    @property
    def version(self) -> int:
        """Raised when a change of the method can change a region, so that answers stored before are not reused."""
        ...

    @property
    def responds(self) -> bool:
        """Whether the model names the region in words, an `Exchange` of which the response can be scored."""
        ...

    def requests(self, question: Question, settings: GroundingSettings) -> Sequence[GenerateRequest]:
        """What the model is to generate for a question; often nothing.

        The requests of all questions go into the same engine call as the macro answers. A conversation that begins
        with the same image as the macro pathway's shares its encoded prefix.
        """
        ...

    def regions(
        self, inputs: Sequence[GroundingInput], engine: Engine, settings: GroundingSettings
    ) -> Sequence[Region | NoRegion]:
        """The regions of a batch, in order. ``engine`` is there for what replies cannot tell, such as scores."""
        ...
