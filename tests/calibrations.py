"""Calibrated choices made by hand."""

from __future__ import annotations

from dualfocus_eval.method.selection.calibration import Calibration, Regression, Term, Validation, signed

__all__ = ["KINDS", "by_one"]

KINDS = ("no_then_yes", "open", "option", "short", "yes_no", "yes_then_no")


def by_one(feature: str, weight: float = 3.0, kinds: tuple[str, ...] = KINDS, **changes: object) -> Calibration:
    """One that looks at a single feature."""
    found = {
        "model": "tiny-1234",
        "settings": {},
        "tasks": {},
        "kinds": dict.fromkeys(kinds, Regression(0.0, (Term(feature, weight),))),
        "unfitted": (),
        "validation": Validation(5, 1, {}, "own_context", (None, None, None)),
        "images": (),
    }
    return signed(Calibration(**(found | changes)))  # type: ignore[arg-type]
