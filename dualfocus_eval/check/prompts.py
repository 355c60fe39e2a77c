"""What the model is shown in both passes: the rendered prompts, the tokens of images and crops, encoded sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dualfocus_eval.check.passes import Passes
from dualfocus_eval.common.geometry import Size
from dualfocus_eval.engines.base import Conversation, Engine, LocalEngine, Message, Picture
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.passes import micro_conversation
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Failed, Zoomed

__all__ = ["PictureSizes", "PromptCheck", "Rendered", "check_prompts", "encoded_size"]


@dataclass(frozen=True)
class PictureSizes:
    """What the model sees of the images, or of the crops."""

    count: int
    fewest_tokens: int | None
    """Image tokens; None where the engine cannot tell them."""
    median_tokens: float | None
    most_tokens: int | None
    encoded: tuple[Size, ...]
    """The different (width, height) in pixels at which the vision encoder sees them; empty where the engine cannot tell
    them."""


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
    """Both passes of the first question, and the images and crops of all."""

    rendered: tuple[Rendered, ...]
    """Empty where the engine cannot tell."""
    images: PictureSizes
    crops: PictureSizes


def check_prompts(passes: Passes, engine: Engine, settings: Settings) -> PromptCheck:
    """Look at the prompts of ``passes``."""
    zoomed = [state for state in passes.looked if isinstance(state, Zoomed)]
    images = [picture for state in passes.looked for picture in state.question.images]
    first = next((state for state in passes.looked if not isinstance(state, Failed)), None)
    named: list[tuple[str, Conversation]] = []
    if first:
        named.append(("first pass, question", macro_conversation(first.question)))
    if zoomed and zoomed[0].zoom.exchange:
        named.append(("first pass, grounding", zoomed[0].zoom.exchange.conversation))
    if zoomed and isinstance(second := micro_conversation(zoomed[0], settings), tuple):
        named.append(("second pass", second))
    parts = [(name, _parts(conversation, engine)) for name, conversation in named]
    return PromptCheck(
        rendered=tuple(Rendered(name, found) for name, found in parts if found),
        images=_sizes(images, engine),
        crops=_sizes([state.zoom.picture for state in zoomed], engine),
    )


def encoded_size(picture: Picture, engine: Engine) -> Size | None:
    """(width, height) of ``picture`` as the vision encoder sees it; None where the engine cannot tell."""
    try:
        return engine.encoded_size(picture)
    except Exception:  # an engine in front of a server does not know, and raises what it likes
        return None


def _parts(conversation: Conversation, engine: Engine) -> tuple[str | int, ...]:
    """The rendered prompt; empty where the engine cannot tell it, or cannot render it and says so when it generates."""
    try:
        return engine.prompt_parts(conversation) if isinstance(engine, LocalEngine) else ()
    except Exception:  # as in `encoded_size`
        return ()


def _sizes(pictures: Sequence[Picture], engine: Engine) -> PictureSizes:
    counts = [_tokens(picture, engine) for picture in pictures]
    tokens = [count for count in counts if count]
    encoded = {size for picture in pictures if (size := encoded_size(picture, engine))}
    return PictureSizes(
        len(pictures),
        min(tokens, default=None),
        median(tokens) if tokens else None,
        max(tokens, default=None),
        tuple(sorted(encoded)),
    )


def _tokens(picture: Picture, engine: Engine) -> int:
    return sum(part for part in _parts((Message("user", (picture, "?")),), engine) if isinstance(part, int))
