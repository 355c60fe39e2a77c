"""What the model is shown in both passes: the rendered prompts, the tokens of images and crops, encoded sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from dualfocus_eval.check.passes import Passes
from dualfocus_eval.common.geometry import Size
from dualfocus_eval.engines.base import Conversation, Failure, Message, Picture
from dualfocus_eval.engines.running import RunEngine
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.passes import micro_conversation
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Failed, Zoomed

__all__ = ["OtherTokens", "PictureSizes", "PromptCheck", "TokenCounts", "check_prompts", "encoded_size"]


@dataclass(frozen=True)
class TokenCounts:
    """Image tokens of several prompts; None where the engine cannot tell them."""

    fewest: int | None
    median: float | None
    most: int | None

    @classmethod
    def of(cls, counts: Sequence[int]) -> TokenCounts:
        """Zeros are prompts whose tokens are not known."""
        known = [count for count in counts if count]
        return cls(min(known, default=None), median(known) if known else None, max(known, default=None))


@dataclass(frozen=True)
class OtherTokens:
    """An image that a server shows its model in another number of tokens than the checkpoint's processor makes of it:
    it resizes images otherwise."""

    size: Size
    """(width, height) of the image in pixels."""
    tokens: int
    expected: int


@dataclass(frozen=True)
class PictureSizes:
    """What the model sees of the images, or of the crops."""

    count: int
    tokens: TokenCounts
    encoded: tuple[Size, ...]
    """The different (width, height) in pixels at which the vision encoder sees them; empty where the engine cannot tell
    them."""
    others: tuple[OtherTokens, ...] = ()
    """Those that the model is not shown as its checkpoint says."""


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model gets it, special tokens included."""

    name: str
    parts: tuple[str | int, ...]
    """Texts, and for each image the number of its tokens."""

    @property
    def text(self) -> str:
        """It with ``<image: N tokens>`` in the place of each image's tokens."""
        return "".join(part if isinstance(part, str) else f"<image: {part} tokens>" for part in self.parts)


@dataclass(frozen=True)
class PromptCheck:
    """Both passes of one question, and the images and crops of all."""

    rendered: tuple[Rendered, ...]
    """Empty where the engine cannot tell."""
    images: PictureSizes
    crops: PictureSizes
    """Each alone."""
    both: TokenCounts
    """An image and its crop in a second pass: some models show several images in fewer tokens each."""


def check_prompts(passes: Passes, engine: RunEngine, settings: Settings) -> PromptCheck:
    """Look at the prompts of ``passes``."""
    zoomed = [state for state in passes.zoomed if isinstance(state, Zoomed)]
    parts = [(name, _parts(conversation, engine)) for name, conversation in _conversations(passes, settings)]
    second = [found for state in zoomed if not isinstance(found := micro_conversation(state, settings), Failure)]
    return PromptCheck(
        rendered=tuple(Rendered(name, found) for name, found in parts if found),
        images=_sizes([picture for state in passes.looked for picture in state.question.images], engine),
        crops=_sizes([state.zoom.picture for state in zoomed], engine),
        both=TokenCounts.of([_tokens(conversation, engine) for conversation in second]),
    )


def _conversations(passes: Passes, settings: Settings) -> Iterator[tuple[str, Conversation]]:
    """Those of the first question with a region; without any region, of the first question that was asked."""
    asked = [state for state in passes.zoomed if not isinstance(state, Failed)]
    state = next((state for state in asked if isinstance(state, Zoomed)), next(iter(asked), None))
    if state is None:
        return
    yield "first pass, question", macro_conversation(state.question)
    for request in GROUNDING[settings.grounding].requests(state.question, settings):
        yield "first pass, grounding", request.conversation
    if isinstance(state, Zoomed) and not isinstance(second := micro_conversation(state, settings), Failure):
        yield "second pass", second


def encoded_size(picture: Picture, engine: RunEngine) -> Size | None:
    """(width, height) of ``picture`` as the vision encoder sees it; None where the engine cannot tell."""
    try:
        return engine.encoded_size(picture)
    except Exception:  # an engine in front of a server does not know, and raises what it likes
        return None


def _parts(conversation: Conversation, engine: RunEngine) -> tuple[str | int, ...]:
    """The rendered prompt; empty where the engine cannot tell it, or cannot render it and says so when it generates."""
    try:
        return engine.prompt_parts(conversation)
    except Exception:  # as in `encoded_size`
        return ()


def _sizes(pictures: Sequence[Picture], engine: RunEngine) -> PictureSizes:
    counts = [_tokens((Message("user", (picture, "?")),), engine) for picture in pictures]
    encoded = {size for picture in pictures if (size := encoded_size(picture, engine))}
    others = [
        OtherTokens(picture.pixels.size, count, expected)
        for picture, count in zip(pictures, counts, strict=True)
        if count and (expected := engine.expected_image_tokens(picture)) not in (None, count)
    ]
    return PictureSizes(len(pictures), TokenCounts.of(counts), tuple(sorted(encoded)), tuple(others))


def _tokens(conversation: Conversation, engine: RunEngine) -> int:
    """The image tokens of a prompt; 0 where they are not known."""
    return sum(part for part in _parts(conversation, engine) if isinstance(part, int))
