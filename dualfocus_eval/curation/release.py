"""Visual Genome's five files, joined by image without holding more than one image's records.

The files are expected in one order of images, as the release has them: then reading is sequential. Every element is
found through the files' indexes, so another order, missing or repeated images change no verdict; it only costs seeks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.curation.annotations import ImageData, ImageObjects, PixelBox, image_data, region_box
from dualfocus_eval.curation.elements import Element, ElementIndex, Unreadable, as_id, index_elements, parse_json

__all__ = ["Image", "Release", "ReleaseReader", "open_release"]

QUESTIONS, OBJECTS, REGIONS, IMAGES = "question_answers", "objects", "region_descriptions", "image_data"
MAPPING = "qa_to_region_mapping"
_LISTS = (QUESTIONS, OBJECTS, REGIONS, IMAGES)
_NEEDED = (QUESTIONS, OBJECTS, IMAGES)


@dataclass(frozen=True)
class RegionMap:
    """qa_to_region_mapping.json, sorted by question id."""

    questions: npt.NDArray[np.int64]  # (entries,)
    regions: npt.NDArray[np.int64]  # (entries,)
    faults: tuple[Unreadable, ...] = ()

    def of(self, qa_id: int) -> int | None:
        """The region of a question."""
        place = int(self.questions.searchsorted(qa_id))
        if place < len(self.questions) and self.questions[place] == qa_id:
            return int(self.regions[place])
        return None


@dataclass(frozen=True)
class Release:
    """Where everything is. Without regions or their mapping, questions have only the objects that they refer to."""

    lists: Mapping[str, ElementIndex]
    mapping: RegionMap
    missing: tuple[str, ...]
    """Files that are not there, of those that can be done without."""

    @property
    def faults(self) -> tuple[Unreadable, ...]:
        """What was wrong with the files when they were indexed."""
        return (*(fault for index in self.lists.values() for fault in index.faults), *self.mapping.faults)


def open_release(source: Path, pool: Executor | None = None) -> Release:
    """Index the files in ``source``, in the processes of ``pool`` if there is one.

    Raises ``UserError`` where question_answers.json, objects.json or image_data.json is missing or is not such a file.
    """
    paths = {name: source / f"{name}.json" for name in (*_LISTS, MAPPING)}
    there = {name: path for name, path in paths.items() if path.is_file()}
    for name in _NEEDED:
        if name not in there:
            zipped = source / f"{name}.json.zip"
            hint = f": unzip {zipped.name} first" if zipped.is_file() else ", a file of Visual Genome's release"
            raise UserError(f"{paths[name]} is missing{hint}")
    lists = [name for name in _LISTS if name in there]
    if pool is None:
        found = {name: index_elements(there[name]) for name in lists}
    else:
        # The biggest file first, so that no process waits for it at the end.
        lists.sort(key=lambda name: -there[name].stat().st_size)
        found = dict(zip(lists, pool.map(index_elements, [there[name] for name in lists]), strict=True))
    mapping = _read_mapping(there[MAPPING]) if MAPPING in there and REGIONS in there else _NO_MAPPING
    return Release(found, mapping, tuple(paths[name].name for name in (REGIONS, MAPPING) if name not in there))


class Image:
    """One image's records, read when they are asked for."""

    def __init__(self, image_id: int | None, reader: ReleaseReader) -> None:
        self.image_id = image_id
        self._reader = reader

    @cached_property
    def data(self) -> ImageData | None:
        """Size and path; None where image_data.json has none."""
        for record in self._records(IMAGES):
            found = image_data(record, self.image_id or 0)
            if found is not None:
                return found
        return None

    @cached_property
    def objects(self) -> ImageObjects | None:
        """All annotated objects; None where objects.json does not have the image."""
        found = [record["objects"] for record in self._records(OBJECTS) if isinstance(record.get("objects"), list)]
        return ImageObjects(entry for objects in found for entry in objects) if found else None

    @cached_property
    def _regions(self) -> list[Any]:
        found = (record.get("regions") for record in self._records(REGIONS))
        return [entry for regions in found if isinstance(regions, list) for entry in regions]

    def region_of(self, qa_id: int) -> PixelBox | None:
        """The region that a question is mapped to."""
        region_id = self._reader.release.mapping.of(qa_id)
        return None if region_id is None else region_box(self._regions, region_id)

    def _records(self, name: str) -> Iterator[Mapping[str, Any]]:
        index = self._reader.release.lists.get(name)
        if index is not None and self.image_id is not None:
            yield from self._reader.read(index, index.of_image(self.image_id))


class ReleaseReader:
    """Reads elements of an indexed release; what cannot be parsed is passed over and noted in ``faults``."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.faults: list[Unreadable] = []
        self._files: dict[Path, int] = {}

    def questions(self, start: int, stop: int) -> Iterator[tuple[Image, list[Any]]]:
        """Images with their ``qas``, for elements ``start`` to ``stop`` of question_answers.json in file order."""
        index = self.release.lists[QUESTIONS]
        for number in range(start, stop):
            element, image_id = index.element(number), int(index.images[number])
            for record in self.read(index, [element]):
                qas = record.get("qas")
                if isinstance(qas, list):
                    yield Image(None if image_id < 0 else image_id, self), qas
                else:
                    self._note(index, element, "has no list qas")

    def read(self, index: ElementIndex, elements: Iterable[Element]) -> Iterator[Mapping[str, Any]]:
        """The parsed elements. Raises ``UserError`` when the file cannot be read any more."""
        for element in elements:
            try:
                if index.path not in self._files:
                    self._files[index.path] = os.open(index.path, os.O_RDONLY)
                content = os.pread(self._files[index.path], element.length, element.start)
            except OSError as error:
                raise UserError(f"{index.path} cannot be read: {error.strerror or error}") from error
            try:
                # An object: the index has nothing else.
                yield parse_json(content)
            except ValueError as error:
                self._note(index, element, f"is not JSON: {error}")

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _note(self, index: ElementIndex, element: Element, reason: str) -> None:
        fault = Unreadable(f"{index.path.name}, byte {element.start}", reason)
        if fault not in self.faults:
            self.faults.append(fault)


_NOTHING = np.zeros(0, dtype=np.int64)
_NO_MAPPING = RegionMap(_NOTHING, _NOTHING)


def _read_mapping(path: Path) -> RegionMap:
    """The file is one object of question ids and region ids; at 1.7 million entries it fits in memory."""
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        return RegionMap(_NOTHING, _NOTHING, (Unreadable(path.name, f"is not JSON, no region is known: {error}"),))
    if not isinstance(content, dict):
        raise UserError(f"{path} is not an object of question ids and region ids")
    pairs, faults = [], []
    for question, region in content.items():
        pair = as_id(question), as_id(region)
        if None in pair:
            faults.append(Unreadable(path.name, f"{question!r}: {region!r} is not a pair of ids"))
        else:
            pairs.append(pair)
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return RegionMap(table[:, 0].copy(), table[:, 1].copy(), tuple(faults))
