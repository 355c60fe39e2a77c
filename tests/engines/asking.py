"""Requests about pictures of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dualfocus_eval.engines.base import Completion, Failure, GenerateRequest, Message, Picture

MIB = 1 << 20


def picture(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Picture:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Picture(Image.fromarray(noise))


def ask(*content: str | Picture, most: int = 8, stop: tuple[str, ...] = ()) -> GenerateRequest:
    return GenerateRequest((Message("user", content),), most, stop)


def answered(request: GenerateRequest, completion: Completion | Failure, *content: str | Picture) -> GenerateRequest:
    assert isinstance(completion, Completion)
    told = Message("assistant", (completion.text,), completion.token_ids)
    return GenerateRequest((*request.conversation, told, Message("user", content)), 8)


def completed(completion: Completion | Failure) -> Completion:
    assert isinstance(completion, Completion), completion
    return completion


def assert_alike(found: Sequence[Completion | Failure], expected: Sequence[Completion | Failure]) -> None:
    """The same answers, token by token, from models of the same weights in two places.

    Log-probabilities may differ in their last digits: where weights lie in memory decides, on some processors, by which
    kernel they are multiplied.
    """
    assert len(found) == len(expected)
    for one, other in zip(map(completed, found), map(completed, expected), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert one.gap == pytest.approx(other.gap, abs=1e-5)
        assert replace(one, logprobs=other.logprobs, gap=other.gap) == other
