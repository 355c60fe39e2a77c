"""What lmms-eval loads through its entry point ``lmms_eval.models``: the model ``dualfocus`` and our tasks.

lmms-eval skips every plugin's models when one entry point fails, and loads entry points also for commands that only
list names: nothing heavy is imported here, and nothing here raises.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest

__all__ = ["manifests"]


def manifests() -> list[ModelManifest]:
    """The manifest of the model ``dualfocus``; as a side effect lmms-eval's task manager learns our tasks."""
    from lmms_eval.models.registry_v2 import ModelManifest

    try:
        from dualfocus_eval.harness.task_index import index_our_tasks

        index_our_tasks()
    except Exception as error:
        warnings.warn(f"dualfocus: its tasks are only found with --include_path ({error})", stacklevel=2)
    return [
        ModelManifest(
            model_id="dualfocus",
            simple_class_path="dualfocus_eval.harness.model.DualFocusSimple",
            chat_class_path="dualfocus_eval.harness.model.DualFocusChat",
        )
    ]
