"""From a document to a Question: its images opened, its prompt read, its stem found.

Whatever is wrong with one document becomes the question's named failure; nothing here raises for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from PIL import Image

from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.harness.requests import Request
from dualfocus_eval.method.images import IMAGE_SUFFIXES, prepare_picture, strict_decoding
from dualfocus_eval.method.marks import IMAGE_MARK, cut_at_marks
from dualfocus_eval.method.question import AnswerKind, Question
from dualfocus_eval.method.stems import POST_PROMPTS, stem_of

__all__ = ["chat_question", "simple_question"]


class UnusableDocumentError(Exception):
    """A document that no question can be made of; ``kind`` is counted, the message shown."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Part(NamedTuple):
    """A text or a picture of a prompt, in the task's order."""

    text: str | None
    medium: Any = None
    """What the task shows, if this is no text."""


def chat_question(request: Request, dataset: Any, system_prompt: str | None) -> Question:
    """The question of a chat task's messages."""
    return _question(request, dataset, system_prompt, _read_messages)


def simple_question(request: Request, dataset: Any, system_prompt: str | None) -> Question:
    """The question of a simple task's visuals and context."""
    return _question(request, dataset, system_prompt, _read_visuals)


def _question(request: Request, dataset: Any, system_prompt: str | None, read: Any) -> Question:
    doc: Any = {}
    content: tuple[str | Picture, ...] = (request.context,)
    system, failure = system_prompt, None
    try:
        with strict_decoding():
            doc = _document(request, dataset)
            system, parts = read(request, doc)
        content = tuple(open_picture(part.medium) if part.text is None else part.text for part in _placed(parts))
    except UnusableDocumentError as error:
        failure = Failure(error.kind, f"{request.key}: {error}")
    pictures = tuple(part for part in content if isinstance(part, Picture))
    texts = [part for part in content if isinstance(part, str)]
    unmarked = _joined(piece for text in texts for piece in cut_at_marks(text) if piece is not None)
    text = unmarked if pictures else _joined(texts)
    declared = request.structure
    parsed = stem_of(unmarked, (*POST_PROMPTS, *request.post_prompts), request.pre_prompts)
    options = declared.options_of(doc)
    if not declared.options and declared.answer in (None, AnswerKind.OPTION):
        options = parsed.options
    stem = declared.stem_of(doc)
    return Question(
        key=request.key,
        prompt=text,
        stem=parsed.stem if stem is None else stem,
        images=pictures,
        kind=declared.answer or (AnswerKind.OPTION if options else AnswerKind.SHORT),
        options=options,
        hint=declared.hint_of(doc),
        max_new_tokens=request.limits.max_new_tokens if request.limits else 1,
        stop=request.limits.stop if request.limits else (),
        system=system_prompt or system,
        failure=failure,
        truth=declared.truth_of(doc, pictures[0].pixels.size) if len(pictures) == 1 else None,
        layout=() if content == (*pictures, text) else content,
    )


def _document(request: Request, dataset: Any) -> Any:
    try:
        return dataset[request.doc_id]
    except Exception as error:
        raise UnusableDocumentError("bad_image", f"its document cannot be read: {_reason(error)}") from error


def _read_messages(request: Request, doc: Any) -> tuple[str | None, list[_Part]]:
    """System text and the user's turn of a chat task's messages."""
    try:
        return _turns(request.read_doc(doc))
    except UnusableDocumentError:
        raise
    except Exception as error:
        raise UnusableDocumentError(_kind(error), f"its messages cannot be read: {_reason(error)}") from error


def _turns(messages: Iterable[Any]) -> tuple[str | None, list[_Part]]:
    """One turn of the user, after one of the system or none: examples as turns of their own are refused."""
    turns = [(message["role"], list(_parts(message["content"]))) for message in messages]
    if any(role == "assistant" for role, _ in turns):
        raise UnusableDocumentError("unsupported_conversation", "its messages have turns of the assistant")
    *before, (role, parts) = turns
    if role != "user" or [role for role, _ in before] not in ([], ["system"]):
        roles = ", ".join(role for role, _ in turns)
        raise UnusableDocumentError("unsupported_conversation", f"its messages are not one of the user: {roles}")
    system = before[0][1] if before else []
    if any(part.text is None for part in system):
        raise UnusableDocumentError("unsupported_conversation", "its system message has an image")
    return _joined(part.text or "" for part in system) or None, parts


def _parts(content: Any) -> Iterator[_Part]:
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if part["type"] == "text":
            yield _Part(part["text"])
        elif part["type"] == "image":
            yield _Part(None, part["url"])
        else:
            raise UnusableDocumentError(f"unsupported_{part['type']}", f"it has {part['type']}, not only images")


def _read_visuals(request: Request, doc: Any) -> tuple[str | None, list[_Part]]:
    """No system text; a simple task's visuals and its context."""
    try:
        visuals = request.read_doc(doc)
    except Exception as error:
        raise UnusableDocumentError(_kind(error), f"its visuals cannot be read: {_reason(error)}") from error
    return None, [*(_Part(None, visual) for visual in visuals or ()), _Part(request.context)]


def _placed(parts: Sequence[_Part]) -> list[_Part]:
    """``parts`` with each picture where the texts mark it, if they mark as many as there are; else as they are."""
    pictures = iter([part for part in parts if part.text is None])
    marks = sum(part.text.count(IMAGE_MARK) for part in parts if part.text)
    if not marks or marks != sum(part.text is None for part in parts):
        return list(parts)
    pieces = (piece for part in parts if part.text is not None for piece in cut_at_marks(part.text))
    return [next(pictures) if piece is None else _Part(piece) for piece in pieces]


def _joined(texts: Iterable[str]) -> str:
    """``texts`` one after the other, with a space where two words would run together."""
    joined = ""
    for text in texts:
        apart = not (joined and text) or joined[-1].isspace() or text[0].isspace()
        joined += text if apart else f" {text}"
    return joined


def open_picture(medium: Any) -> Picture:
    """The picture of an image or an image file. Raises ``UnusableDocumentError`` for what is none."""
    if isinstance(medium, str) and not medium.lower().endswith(tuple(IMAGE_SUFFIXES)):
        raise UnusableDocumentError("unsupported_video", f"{medium} is not an image file")
    if not isinstance(medium, str | Image.Image):
        raise UnusableDocumentError("unsupported_media", f"a {type(medium).__name__} is not an image")
    picture = prepare_picture(medium)
    if isinstance(picture, Failure):
        raise UnusableDocumentError(picture.kind, picture.message)
    return picture


def _kind(error: Exception) -> str:
    """Tasks open their images themselves, and raise ``OSError`` for one that cannot be read."""
    return "bad_image" if isinstance(error, OSError) else "bad_document"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
