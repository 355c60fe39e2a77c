"""Adds a grounding method, a selection rule and a model family to dualfocus-eval."""
