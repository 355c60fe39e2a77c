"""The released code's crop of many boxes at once: the design's account of it as plain array arithmetic."""

from __future__ import annotations

import numpy as np

__all__ = ["released_crops"]


def released_crops(boxes: np.ndarray, sizes: np.ndarray, margin: float = 25.0) -> np.ndarray:
    """(boxes, 4) fractions in float64 and (boxes, 2) widths and heights: (boxes, 4) pixels, ends excluded."""
    in_pixels = boxes * np.concatenate([sizes, sizes], axis=1).astype(np.float64)
    corners = in_pixels.astype(np.float32)
    low, high = corners[:, :2], corners[:, 2:]
    half = (high - low).max(axis=1, keepdims=True) / 2
    middle = (high + low) / 2
    last = (sizes - 1).astype(np.float32)
    low, high = np.clip(middle - half, 0, last), np.clip(middle + half, 0, last)
    low, high = low - np.float32(margin), high + np.float32(margin)
    return np.concatenate([np.clip(low, 0, last), np.clip(high, 0, last)], axis=1).astype(np.int32)
