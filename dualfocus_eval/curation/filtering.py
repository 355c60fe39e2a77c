"""What becomes of one question: a target box and a sub-region, or the reason why it is left out (section 3.2)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dualfocus_eval.common.geometry import Box, Crop, union
from dualfocus_eval.curation.annotations import ImageData, ImageObjects, Instance, PixelBox, Referent, referents
from dualfocus_eval.curation.elements import as_id, readable
from dualfocus_eval.curation.names import is_plural, kind_of, stem, words
from dualfocus_eval.curation.reasons import STICKS_OUT, Reason
from dualfocus_eval.curation.settings import CurationSettings
from dualfocus_eval.method.crops import crop_of
from dualfocus_eval.method.marks import IMAGE_MARK

__all__ = ["Excluded", "Kept", "covered", "judge"]


"""Stands for an image in LLaVA's data; in a question's own text it would stand for one that is not there."""


@dataclass(frozen=True)
class Kept:
    """A question with its target box."""

    qa_id: int
    question: str
    answer: str
    box: Box
    crop: Crop
    """In pixels of the original image."""
    source: Literal["objects", "region"]
    """Whether the box is the union of the referred objects or the mapped region."""


@dataclass(frozen=True)
class Excluded:
    """A question that is left out."""

    qa_id: int | None
    reason: Reason
    detail: str = ""
    """What decided, e.g. the ambiguous name."""


class ImageRecords(Protocol):
    """What the release says about one image."""

    image_id: int | None

    @property
    def data(self) -> ImageData | None:
        """Size and path; None where image_data.json has none."""

    @property
    def objects(self) -> ImageObjects | None:
        """All annotated objects; None where objects.json does not have the image."""

    def region_of(self, qa_id: int) -> PixelBox | None:
        """The region that a question is mapped to."""


def judge(qa: Any, image: ImageRecords, settings: CurationSettings) -> Kept | Excluded:
    """The verdict on one entry of ``qas``; never raises for any JSON value."""
    record = qa if isinstance(qa, dict) else {}
    qa_id = as_id(record.get("qa_id", record.get("id")))
    read = _texts(qa, qa_id, image)
    if isinstance(read, Excluded):
        return read
    question, answer = read
    if qa_id is None or image.data is None:
        return Excluded(qa_id, Reason.UNKNOWN_IMAGE)
    located = _located(record, qa_id, question, image, settings)
    if isinstance(located, Excluded):
        return located
    size = (image.data.width, image.data.height)
    box = _framed(located.box, size)
    if isinstance(box, Reason):
        return Excluded(qa_id, box, _pixels(located.box))
    doubt = _doubt(located, image.objects, settings.overlap)
    if doubt is not None:
        return Excluded(qa_id, *doubt)
    crop = crop_of(box, size, rule=settings.crop, margin=settings.margin)
    if crop is None:
        return Excluded(qa_id, Reason.TOO_SMALL, _pixels(located.box))
    return Kept(qa_id, question, answer, box, crop, located.source)


def covered(inner: PixelBox, box: PixelBox) -> float:
    """The share of ``inner``'s area that lies in ``box``."""
    width = min(inner[2], box[2]) - max(inner[0], box[0])
    height = min(inner[3], box[3]) - max(inner[1], box[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return width * height / area if width > 0 and height > 0 else 0.0


@dataclass(frozen=True)
class _Located:
    box: PixelBox
    source: Literal["objects", "region"]
    named: tuple[Referent | Instance, ...]
    """What must have no double outside the box."""


def _texts(qa: Any, qa_id: int | None, image: ImageRecords) -> tuple[str, str] | Excluded:
    """Question and answer, or what is wrong with the record itself."""
    if not isinstance(qa, dict):
        return Excluded(qa_id, Reason.MALFORMED, f"not an object but {type(qa).__name__}")
    if qa_id is None or image.image_id is None:
        return Excluded(qa_id, Reason.NO_ID, "" if qa_id is None else "image")
    question, answer = ("" if qa.get(name) is None else qa[name] for name in ("question", "answer"))
    if not isinstance(question, str) or not isinstance(answer, str):
        return Excluded(qa_id, Reason.MALFORMED, "question or answer is not text")
    if qa.get("image_id") is not None and as_id(qa["image_id"]) != image.image_id:
        return Excluded(qa_id, Reason.MALFORMED, f"listed under image {image.image_id}, but names another")
    if IMAGE_MARK in question or IMAGE_MARK in answer:
        return Excluded(qa_id, Reason.MALFORMED, f"contains {IMAGE_MARK}")
    question, answer = readable(question), readable(answer)
    if not any(character.isalnum() for character in question):
        return Excluded(qa_id, Reason.EMPTY_QUESTION)
    if all(unicodedata.category(character)[0] in "PZC" for character in answer):
        return Excluded(qa_id, Reason.EMPTY_ANSWER)
    return question, answer


def _located(
    qa: Mapping[str, Any], qa_id: int, question: str, image: ImageRecords, settings: CurationSettings
) -> _Located | Excluded:
    """The union of what question and answer refer to; where that is not to be had, the mapped region."""
    asked, answered = referents(qa)
    referred = [*asked, *answered]
    boxes: list[PixelBox] = []
    missing: Referent | None = None
    for referent in referred:
        found = _boxes_of(referent, image.objects, settings.overlap)
        if found is None:
            return Excluded(qa_id, Reason.AMBIGUOUS, _called(referent))
        if not found and referent.placed:
            missing = referent
        boxes.extend(found)
    if boxes and missing is None:
        return _Located(union(boxes), "objects", tuple(referred))
    region = image.region_of(qa_id)
    if region is None:
        return Excluded(qa_id, Reason.NO_BOX, _called(missing) if missing else "")
    return _Located(region, "region", (*asked, *_mentioned(question, image.objects), *answered))


def _boxes_of(referent: Referent, objects: ImageObjects | None, overlap: float) -> list[PixelBox] | None:
    """Its own box, that of its id, or those of the objects of its name; None where its name does not tell which."""
    if referent.box is not None:
        return [referent.box]
    if objects is None:
        return []
    known = objects.by_id.get(referent.object_id) if referent.object_id is not None else None
    if known is not None and known.box is not None:
        return [known.box]
    if referent.placed:
        return []
    boxes = [instance.box for instance in objects.alike(referent.kind) if instance.box is not None]
    if len(boxes) < 2 or any(is_plural(name) for name in referent.names):
        return boxes
    # Annotators often marked one object several times.
    largest = max(boxes, key=_area)
    return [largest] if all(covered(box, largest) >= overlap for box in boxes) else None


def _mentioned(question: str, objects: ImageObjects | None) -> Sequence[Referent | Instance]:
    """The question's words that name objects of the image: the release does not say all that it refers to."""
    if objects is None:
        return ()
    found: list[Referent | Instance] = []
    for word in words(question):
        kind = kind_of((word,), ())
        if any(key in objects.by_key for key in kind.sought):
            # With the objects of just this name come their synsets, and with these the synonyms.
            found += [Referent(None, (word,), kind, None, False), *objects.by_key.get(f"noun {stem(word)}", ())]
    return found


def _framed(box: PixelBox, size: tuple[int, int]) -> Box | Reason:
    """The box as fractions of the image, what sticks out cut off; or why it cannot be a target."""
    (width, height), (x1, y1, x2, y2) = size, box
    if min(x1 / width, y1 / height) < -STICKS_OUT or max(x2 / width, y2 / height) > 1 + STICKS_OUT:
        return Reason.OUTSIDE_IMAGE
    cut = Box(max(x1, 0) / width, max(y1, 0) / height, min(x2, width) / width, min(y2, height) / height)
    if cut.x1 >= cut.x2 or cut.y1 >= cut.y2:
        return Reason.OUTSIDE_IMAGE
    # Two decimals are what the model learns to write.
    if f"{cut.x1:.2f}" == f"{cut.x2:.2f}" or f"{cut.y1:.2f}" == f"{cut.y2:.2f}":
        return Reason.TOO_SMALL
    return cut


def _doubt(located: _Located, objects: ImageObjects | None, overlap: float) -> tuple[Reason, str] | None:
    """Whether something else could be meant, or whether nothing can be said about that."""
    if objects is None:
        return Reason.UNCHECKED, "no objects"
    for entry in located.named:
        kind = entry.kind
        if not kind.sought and isinstance(entry, Referent):
            known = objects.by_id.get(entry.object_id) if entry.object_id is not None else None
            if known is None or not known.kind.sought:
                return Reason.UNCHECKED, "no name"
            kind = known.kind
        for key in kind.sought:
            for other in objects.by_key.get(key, ()):
                if other.box is not None and covered(other.box, located.box) < overlap:
                    return Reason.AMBIGUOUS, _called(entry)
    return None


def _called(entry: Referent | Instance) -> str:
    return entry.names[0] if entry.names else ""


def _area(box: PixelBox) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _pixels(box: PixelBox) -> str:
    return ",".join(f"{value:g}" for value in box)
