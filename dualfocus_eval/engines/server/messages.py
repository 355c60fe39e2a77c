"""Conversations in the form of the OpenAI API: images as PNG data, which keep every pixel."""

from __future__ import annotations

import asyncio
import base64
import io
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

from dualfocus_eval.engines.base import Conversation, Picture

__all__ = ["ImageUrls", "messages_of", "pictures_of", "trial"]

_KEPT_BYTES = 512 << 20
"""Encoded images in memory, at most, beside those that questions in flight hold."""


def pictures_of(conversation: Conversation) -> list[Picture]:
    """Its pictures in reading order."""
    return [part for message in conversation for part in message.content if isinstance(part, Picture)]


class ImageUrls:
    """Data URLs of images, each encoded once while there is room for it; threads encode, not the event loop."""

    def __init__(self, budget: int = _KEPT_BYTES) -> None:
        self._budget, self._used = budget, 0
        self._tasks: OrderedDict[str, asyncio.Future[str]] = OrderedDict()

    async def of(self, conversation: Conversation) -> dict[str, str]:
        """The URLs of the conversation's pictures by digest."""
        pictures = pictures_of(conversation)
        urls = await asyncio.gather(*map(self._url, pictures))
        return {picture.digest: url for picture, url in zip(pictures, urls, strict=True)}

    async def _url(self, picture: Picture) -> str:
        task = self._tasks.get(picture.digest)
        if task is None:
            task = asyncio.ensure_future(asyncio.to_thread(_data_url, picture))
            self._tasks[picture.digest] = task
            task.add_done_callback(self._keep)
        self._tasks.move_to_end(picture.digest)
        return await asyncio.shield(task)

    def _keep(self, task: asyncio.Future[str]) -> None:
        """Count what has come, and forget what was used least recently."""
        self._used += _size(task)
        for digest, oldest in list(self._tasks.items()):
            if self._used <= self._budget:
                return
            if oldest.done():
                del self._tasks[digest]
                self._used -= _size(oldest)


def _size(task: asyncio.Future[str]) -> int:
    return 0 if task.cancelled() or task.exception() is not None else len(task.result())


def _data_url(picture: Picture) -> str:
    content = io.BytesIO()
    picture.pixels.save(content, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


async def trial(
    model: str,
    conversation: Conversation,
    more: Mapping[str, Any] | None = None,
    *,
    named: bool = False,
    known: bool = False,
    begun: str | None = None,
) -> dict[str, Any]:
    """A request that tries a server with ``conversation``: one greedy token, unless ``more`` says otherwise.

    With ``named`` its images have names; with ``known`` they go by those alone.
    """
    urls = await ImageUrls().of(conversation)
    messages = messages_of(conversation, urls, named=named or known, known=urls if known else (), begun=begun)
    return {"model": model, "messages": messages, "max_tokens": 1, "temperature": 0, **(more or {})}


def messages_of(
    conversation: Conversation,
    urls: Mapping[str, str],
    *,
    named: bool,
    known: Collection[str] = (),
    begun: str | None = None,
) -> list[dict[str, Any]]:
    """``conversation`` as the API takes it.

    With ``named`` every image has its digest as its ``uuid`` (vLLM); one of the ``known`` is sent by that alone.
    ``begun`` is what the assistant has written already of the answer that is to come.
    """
    messages: list[dict[str, Any]] = []
    for message in conversation:
        parts = [
            _image(part, urls, named, known) if isinstance(part, Picture) else {"type": "text", "text": part}
            for part in message.content
        ]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        only_text = message.role == "assistant" or len(texts) == len(parts)
        messages.append({"role": message.role, "content": "".join(texts) if only_text else parts})
    if begun is not None:
        messages.append({"role": "assistant", "content": begun})
    return messages


def _image(picture: Picture, urls: Mapping[str, str], named: bool, known: Collection[str]) -> dict[str, Any]:
    if not named:
        return {"type": "image_url", "image_url": {"url": urls[picture.digest]}}
    url = None if picture.digest in known else {"url": urls[picture.digest]}
    return {"type": "image_url", "image_url": url, "uuid": picture.digest}
