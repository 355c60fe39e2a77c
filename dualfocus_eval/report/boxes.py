"""Boxes: how many can be read, how large they are, how well they lie, and what that is worth."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["truth_overlap"]

_CORNERS = ("x1", "y1", "x2", "y2")


def truth_overlap(rows: pd.DataFrame) -> np.ndarray:
    """IoU of each question's box with its document's; (questions,), 0 without a usable box, NaN without a true one."""
    found = rows[[f"box_{corner}" for corner in _CORNERS]].to_numpy()
    truth = rows[[f"truth_{corner}" for corner in _CORNERS]].to_numpy()
    low, high = np.fmax(found[:, :2], truth[:, :2]), np.fmin(found[:, 2:], truth[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    together = _area(found) + _area(truth) - shared
    overlap = np.divide(shared, together, out=np.zeros(len(rows)), where=together > 0)
    return np.where(np.isnan(truth).any(axis=1), np.nan, np.where(np.isnan(found).any(axis=1), 0.0, overlap))


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1))
