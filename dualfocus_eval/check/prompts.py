"""What the model is shown in both passes: the rendered prompts, the tokens of images and crops, encoded sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from dualfocus_eval.check.passes import Passes
from dualfocus_eval.common.geometry import Size
from dualfocus_eval.engines.base import Conversation, Engine, Failure, Message, Picture
from dualfocus_eval.engines.local import LocalEngine
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.grounding import GROUNDING
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
    """Both passes of one question, and the images and crops of all."""

    rendered: tuple[Rendered, ...]
    """Empty where the engine cannot tell."""
    images: PictureSizes
    crops: PictureSizes


def check_prompts(passes: Passes, engine: Engine, settings: Settings) -> PromptCheck:
    """Look at the prompts of ``passes``."""
    zoomed = [state for state in passes.looked if isinstance(state, Zoomed)]
    parts = [(name, _parts(conversation, engine)) for name, conversation in _conversations(passes, settings)]
    return PromptCheck(
        rendered=tuple(Rendered(name, found) for name, found in parts if found),
        images=_sizes([picture for state in passes.looked for picture in state.question.images], engine),
        crops=_sizes([state.zoom.picture for state in zoomed], engine),
    )


def _conversations(passes: Passes, settings: Settings) -> Iterator[tuple[str, Conversation]]:
    """Those of the first question with a region; without any region, of the first question that was asked."""
    asked = [state for state in passes.looked if not isinstance(state, Failed)]
    state = next((state for state in asked if isinstance(state, Zoomed)), next(iter(asked), None))
    if state is None:
        return
    yield "first pass, question", macro_conversation(state.question)
    for request in GROUNDING[settings.grounding].requests(state.question, settings):
        yield "first pass, grounding", request.conversation
    if isinstance(state, Zoomed) and not isinstance(second := micro_conversation(state, settings), Failure):
        yield "second pass", second


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
