"""Checkpoints in other layouts, made into ones that transformers, lmms-eval and vLLM load."""
