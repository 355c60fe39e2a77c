"""A run's questions in the formats of other tools, a module for each."""

from __future__ import annotations

from dualfocus_eval.common.registry import Registry
from dualfocus_eval.export.base import ExportFormat
from dualfocus_eval.export.fiftyone import FIFTYONE
from dualfocus_eval.export.hf_dataset import HF_DATASET
from dualfocus_eval.export.jsonl import JSONL
from dualfocus_eval.export.parquet import PARQUET

__all__ = ["EXPORTS"]

EXPORTS: Registry[ExportFormat] = Registry(
    "dualfocus_eval.export", "export format", (JSONL, PARQUET, HF_DATASET, FIFTYONE)
)
"""Every format by name: this package's own, and those that other packages register."""
