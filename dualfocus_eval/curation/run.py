"""From a release to training samples, in parallel processes; the output does not depend on how many there are.

Files are written under temporary names and moved into place, the report last; crops are final one by one, so that a
killed run starts again with those that are done.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.files import sole_writer
from dualfocus_eval.common.garbage import uncollected
from dualfocus_eval.curation.annotations import ImageData
from dualfocus_eval.curation.elements import Unreadable
from dualfocus_eval.curation.filtering import Excluded, Kept, judge
from dualfocus_eval.curation.output_files import OutputFiles
from dualfocus_eval.curation.pictures import (
    CROPS,
    UnusableImageError,
    crop_path,
    cut,
    find_images,
    locate,
)
from dualfocus_eval.curation.reasons import Reason
from dualfocus_eval.curation.release import QUESTIONS, Image, Release, ReleaseReader, open_release
from dualfocus_eval.curation.samples import Sample, sample_of
from dualfocus_eval.curation.settings import CurationSettings
from dualfocus_eval.curation.tally import Tally

__all__ = ["curate"]

AT_ONCE = 64
"""Images that a process takes at a time."""
AHEAD = 3
"""Batches per process that are under way; bounds what waits to be written."""


@dataclass(frozen=True)
class _Job:
    """All that a process needs to know once."""

    release: Release
    settings: CurationSettings
    out: Path
    images: Path | None
    files: Mapping[str, str]
    """Image file names to paths below ``images``."""


@dataclass
class _Batch:
    """What became of some images' questions, in file order."""

    rows: list[tuple[int | None, Sample | Excluded]] = field(default_factory=list)
    """With the id of the image."""
    faults: list[Unreadable] = field(default_factory=list)


def curate(
    source: Path,
    out: Path,
    settings: CurationSettings,
    *,
    images: Path | None = None,
    workers: int = 1,
    on_images: Callable[[int, int], object] = lambda done, total: None,
) -> Tally:
    """Write samples, exclusions and, with an image folder, the crops to ``out``; return what became of every question.

    Raises ``UserError`` where a file is missing or is not Visual Genome's, ``out`` cannot be written, or another
    process writes to it.
    """
    files = find_images(images) if images is not None else {}
    try:
        with sole_writer(out):
            for partial in (*out.glob("*.partial"), *(out / CROPS).rglob("*.partial")):
                partial.unlink()
            with _pool(workers) if workers > 1 else nullcontext() as pool:
                release = open_release(source, pool)
            return _written(_Job(release, settings, out, images, files), workers, on_images)
    except BrokenProcessPool as error:
        raise UserError(f"a process of the curation was ended from outside, maybe for memory: {error}") from error
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}. Crops that are done are kept: run again") from error


def _written(job: _Job, workers: int, on_images: Callable[[int, int], object]) -> Tally:
    """Write all questions of the release to ``job.out``; return what became of them."""
    tally, seen = Tally(job.release), set[int]()
    with OutputFiles(job.out) as output, uncollected():
        for done, batch in _batches(job, workers):
            tally.faults.extend(batch.faults)
            for image_id, row in batch.rows:
                qa_id = row.qa_id
                if qa_id is not None and qa_id in seen:
                    row = Excluded(qa_id, Reason.DUPLICATE)
                elif qa_id is not None:
                    seen.add(qa_id)
                tally.add(image_id, row)
                output.add(image_id, row)
            on_images(done, len(job.release.lists[QUESTIONS]))
        output.publish()
    return tally


def _pool(workers: int, job: _Job | None = None) -> ProcessPoolExecutor:
    # Spawned: a fork would copy the threads of whoever calls this in an unknown state.
    context = get_context("spawn")
    if job is None:
        return ProcessPoolExecutor(workers, context)
    return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(job,))


def _batches(job: _Job, workers: int) -> Iterator[tuple[int, _Batch]]:
    """(images done, what became of their questions), in file order."""
    total = len(job.release.lists[QUESTIONS])
    ranges = [(start, min(start + AT_ONCE, total)) for start in range(0, total, AT_ONCE)]
    if workers == 1:
        worker = _Worker(job)
        for span in ranges:
            yield span[1], worker.run(*span)
        return
    with _pool(workers, job) as pool:
        waiting: deque[tuple[int, Future[_Batch]]] = deque()
        try:
            for span in ranges:
                waiting.append((span[1], pool.submit(_run, *span)))
                if len(waiting) >= AHEAD * workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    def __init__(self, job: _Job) -> None:
        self.job = job
        self.reader = ReleaseReader(job.release)

    def run(self, start: int, stop: int) -> _Batch:
        batch = _Batch()
        for image, qas in self.reader.questions(start, stop):
            verdicts = [judge(qa, image, self.job.settings) for qa in qas]
            rows = self._samples(image, verdicts)
            batch.rows.extend((image.image_id, row) for row in rows)
        batch.faults, self.reader.faults = self.reader.faults, []
        return batch

    def _samples(self, image: Image, verdicts: list[Kept | Excluded]) -> list[Sample | Excluded]:
        kept = [verdict for verdict in verdicts if isinstance(verdict, Kept)]
        if not kept or image.image_id is None or image.data is None:
            return [verdict for verdict in verdicts if isinstance(verdict, Excluded)]
        size, path = (image.data.width, image.data.height), image.data.path
        if self.job.images is not None:
            try:
                path = self._cut(image.image_id, image.data, size, kept)
            except UnusableImageError as error:
                return [
                    Excluded(verdict.qa_id, error.reason, str(error)) if isinstance(verdict, Kept) else verdict
                    for verdict in verdicts
                ]
        prompt_set = self.job.settings.prompt_set
        return [
            sample_of(verdict, image.image_id, path, size, prompt_set) if isinstance(verdict, Kept) else verdict
            for verdict in verdicts
        ]

    def _cut(self, image_id: int, data: ImageData, size: tuple[int, int], kept: list[Kept]) -> str:
        """Cut the sub-regions of an image; return its path below the image folder."""
        path = locate(data, self.job.files)
        if path is None:
            raise UnusableImageError(Reason.IMAGE_UNREADABLE, f"image {data.path} is missing")
        assert self.job.images is not None
        crops = {crop_path(image_id, entry.crop): entry.crop for entry in kept}
        cut(self.job.images / path, size, crops, self.job.out)
        return path


_worker: _Worker


def _start(job: _Job) -> None:
    global _worker
    _worker = _Worker(job)
    gc.disable()


def _run(start: int, stop: int) -> _Batch:
    return _worker.run(start, stop)
