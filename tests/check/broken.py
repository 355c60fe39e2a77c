"""A prefix cache that is broken on purpose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dualfocus_eval.engines import rendering

__all__ = ["forget_images"]


def forget_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the images out of the keys of prefixes: the states of another image of as many tokens are reused."""
    keyed = rendering._boundaries

    def without_images(ids: Any, spans: Any, pictures: Any, turn_ends: Any) -> Any:
        return keyed(ids, spans, [SimpleNamespace(key="") for _ in pictures], turn_ends)

    monkeypatch.setattr(rendering, "_boundaries", without_images)
