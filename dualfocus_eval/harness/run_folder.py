"""What a run leaves in its trace folder while it answers: its traces and its pictures."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator
from loguru import logger

from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.harness.store_key import StoreKey
from dualfocus_eval.harness.summary import Summary
from dualfocus_eval.traces.pictures import PictureStore
from dualfocus_eval.traces.store import TraceStore

__all__ = ["RunFolder"]


class RunFolder:
    """One process's files in the trace folder ``path``, opened at its first question.

    ``longer_side`` is the most pixels that a picture keeps on that side (`PictureStore`).
    """

    def __init__(self, path: Path, key: StoreKey, longer_side: float | None, accelerator: Accelerator) -> None:
        self.path = path
        self.not_reused: tuple[str, ...] = ()
        """`TraceStore.not_reused`, once the traces have been opened."""
        self._key, self._longer_side, self._accelerator = key, longer_side, accelerator
        self._store: TraceStore | None = None
        self._pictures: PictureStore | None = None

    @property
    def store(self) -> TraceStore:
        """This rank's traces."""
        if self._store is None:
            self._store = self._key.open_store(self.path, self._accelerator.process_index)
            self.not_reused = self._store.not_reused
            if self.not_reused and self._accelerator.is_main_process:
                logger.warning(one_line("; ".join(self.not_reused)))
        return self._store

    @property
    def pictures(self) -> PictureStore:
        """The images of this rank's questions."""
        if self._pictures is None:
            self._pictures = PictureStore(self.path, self._longer_side, rank=self._accelerator.process_index)
        return self._pictures

    def close(self) -> None:
        """Write what is waiting and release the files, so that this process may begin another run."""
        if self._store:
            self._store.close()
        if self._pictures:
            self._pictures.close()

    def finish(self, summary: Summary) -> None:
        """`close`, and add to ``summary`` what could not be written."""
        self.close()
        if self._store:
            summary.unwritten += self._store.unwritten
            summary.rewritten += self._store.rewritten
        if self._pictures:
            summary.pictures_unwritten += self._pictures.failures
        self._store = self._pictures = None
