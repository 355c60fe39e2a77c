"""A multiple-choice set out of GQA's own annotations: what ``dualfocus data gqa-mcq`` builds."""

from __future__ import annotations

from dualfocus_eval.datasets.gqa_choices.build import Built, build_choices

__all__ = ["Built", "build_choices"]
