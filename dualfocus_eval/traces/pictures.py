"""The images of a run, kept once each beside its traces, so that a run's folder shows what was asked about anywhere."""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from PIL import Image

from dualfocus_eval.common.files import replacing
from dualfocus_eval.engines.base import Picture

__all__ = ["PictureStore", "picture_file"]

_log = logging.getLogger(__name__)

_FOLDER = "images"
_QUALITY = 90
_WAITING = 64
"""Pictures that may wait to be written; whoever hands over more waits, so that they never fill the memory."""
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


def picture_file(folder: Path, digest: str) -> Path | None:
    """Where a trace folder keeps the picture of that `traces.record.ImageInfo.digest`, whether it is there or not.

    None for what is no digest: a file name is never made of any other text of a trace.
    """
    return folder / _FOLDER / f"{digest}.jpg" if _DIGEST.fullmatch(digest) else None


class PictureStore:
    """Writes each distinct picture of a run once, as ``images/DIGEST.jpg`` in its trace folder, in a thread of its own.

    ``longer_side`` is the most pixels that a picture keeps on that side; infinity keeps its own size, None keeps none.
    A file is written whole or not at all. Several ranks may write at once, and a picture that is there, in whatever
    size, is not written again. Nothing is raised for what cannot be written: `failures` counts the pictures by the
    reason, and the run goes on.
    """

    def __init__(self, folder: Path, longer_side: float | None, *, rank: int = 0) -> None:
        self._folder, self._longer_side, self._writer = folder / _FOLDER, longer_side, f"rank{rank:04d}"
        self._failed: dict[str, str] = {}
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_WAITING)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pictures") if longer_side else None
        self._known: set[str] = set()
        if self._pool:
            self._known = {path.stem for path in self._folder.glob("*.jpg")}
            for partial in self._folder.glob(f"*.{self._writer}.partial"):  # of a run that was killed
                with suppress(OSError):
                    partial.unlink()

    @property
    def failures(self) -> Counter[str]:
        """How many pictures could not be written, by the reason; complete once the store is closed."""
        with self._lock:
            return Counter(self._failed.values())

    def keep(self, pictures: Iterable[Picture]) -> None:
        """Have the pictures written that are not there yet; returns at once unless many are waiting."""
        if self._pool is None:
            return
        for picture in pictures:
            with self._lock:
                new = picture.digest not in self._known
                self._known.add(picture.digest)
            if new:
                self._room.acquire()
                self._pool.submit(self._write, picture)

    def close(self) -> None:
        """Write what is waiting."""
        if self._pool:
            self._pool.shutdown()

    def _write(self, picture: Picture) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / f"{picture.digest}.jpg", writer=self._writer) as partial:
                try:
                    self._shrunk(picture.pixels).save(partial, "JPEG", quality=_QUALITY)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
        except Exception as error:  # Pillow raises nearly anything; a picture never costs an answer
            self._note(picture.digest, error)
        else:
            with self._lock:
                self._failed.pop(picture.digest, None)
        finally:
            self._room.release()

    def _shrunk(self, image: Image.Image) -> Image.Image:
        scale = (self._longer_side or math.inf) / max(image.size)
        if scale >= 1:
            return image
        width, height = (max(1, round(side * scale)) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)

    def _note(self, digest: str, error: Exception) -> None:
        number = error.errno if isinstance(error, OSError) else None
        reason = errno.errorcode.get(number or 0, type(error).__name__)
        with self._lock:
            first = reason not in self._failed.values()
            self._failed[digest] = reason
            self._known.discard(digest)  # tried again with the next question about it
        if first:
            words = os.strerror(number) if number else str(error)
            _log.warning("a picture cannot be written to %s: %s; the run goes on", self._folder, words)
