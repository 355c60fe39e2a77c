"""Images on their way to a server: encoded once, within a budget of memory, every pixel kept."""

from __future__ import annotations

import asyncio
import base64
import io

import pytest
from PIL import Image

from dualfocus_eval.engines.base import Message
from dualfocus_eval.engines.server import messages
from dualfocus_eval.engines.server.messages import ImageUrls
from tests.engines.asking import picture


def test_an_image_is_encoded_once_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = messages._data_url
    monkeypatch.setattr(messages, "_data_url", lambda one: (encoded.append(one.digest), encode(one))[1])
    first, second = picture(1, (80, 60)), picture(2, (60, 80))
    both = (Message("user", (first, "And", second, first)),)

    async def ask_twice(urls: ImageUrls) -> dict[str, str]:
        await asyncio.gather(urls.of(both), urls.of(both))
        return await urls.of(both)

    found = asyncio.run(ask_twice(ImageUrls()))
    assert sorted(encoded) == sorted([first.digest, second.digest])
    content = base64.b64decode(found[second.digest].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(content)).tobytes() == second.pixels.tobytes()

    encoded.clear()
    assert asyncio.run(ask_twice(ImageUrls(budget=1))) == found
    assert len(encoded) > 2
