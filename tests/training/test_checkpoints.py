"""Which checkpoint training goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.training.checkpoints import keep_only, last_checkpoint


@pytest.mark.parametrize("fsdp", [True, False])
def test_a_checkpoint_is_for_the_way_of_training_that_wrote_it(tmp_path: Path, fsdp: bool) -> None:
    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    (checkpoint / ("pytorch_model_fsdp.bin" if fsdp else "model.safetensors")).touch()
    assert last_checkpoint(tmp_path, fsdp=not fsdp) is None  # it is not complete
    keep_only(checkpoint)
    assert last_checkpoint(tmp_path, fsdp=fsdp) == checkpoint
    with pytest.raises(UserError, match=f"checkpoint-2 was written {'under' if fsdp else 'without'} FSDP"):
        last_checkpoint(tmp_path, fsdp=not fsdp)
