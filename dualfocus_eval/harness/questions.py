"""From a document to a Question: its images opened, its prompt read, its stem found.

Whatever is wrong with one document becomes the question's named failure; nothing here raises for it.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from dualfocus_eval.engines.base import Failure, Picture
from dualfocus_eval.harness.requests import Request
from dualfocus_eval.method.images import IMAGE_SUFFIXES, prepare_picture, strict_decoding
from dualfocus_eval.method.question import POST_PROMPTS, AnswerKind, Question, stem_of

__all__ = ["UnusableDocumentError", "chat_question", "open_picture", "simple_question"]


class UnusableDocumentError(Exception):
    """A document that no question can be made of; ``kind`` is counted, the message shown."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def chat_question(request: Request, dataset: Any, system_prompt: str | None) -> Question:
    """The question of a chat task's messages."""
    return _question(request, dataset, system_prompt, _read_messages)


def simple_question(request: Request, dataset: Any, system_prompt: str | None) -> Question:
    """The question of a simple task's visuals and context."""
    return _question(request, dataset, system_prompt, _read_visuals)


def _question(request: Request, dataset: Any, system_prompt: str | None, read: Any) -> Question:
    doc: Any = {}
    system, text, media, failure = system_prompt, request.context, [], None
    try:
        with strict_decoding():
            doc = _document(request, dataset)
            system, text, media = read(request, doc)
        pictures = tuple(open_picture(medium) for medium in media)
    except UnusableDocumentError as error:
        pictures, failure = (), Failure(error.kind, f"{request.key}: {error}")
    declared, parsed = request.structure, stem_of(text, (*POST_PROMPTS, *request.post_prompts))
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
    )


def _document(request: Request, dataset: Any) -> Any:
    try:
        return dataset[request.doc_id]
    except Exception as error:
        raise UnusableDocumentError("bad_image", f"its document cannot be read: {_reason(error)}") from error


def _read_messages(request: Request, doc: Any) -> tuple[str | None, str, list[Any]]:
    """System text, user text and media of a chat task's messages."""
    try:
        return _flattened(request.read_doc(doc))
    except UnusableDocumentError:
        raise
    except Exception as error:
        raise UnusableDocumentError("bad_document", f"its messages cannot be read: {_reason(error)}") from error


def _flattened(messages: Any) -> tuple[str | None, str, list[Any]]:
    """One user turn: examples as turns of their own are refused."""
    system: list[str] = []
    text: list[str] = []
    media: list[Any] = []
    for message in messages:
        content = message["content"]
        if message["role"] == "assistant":
            raise UnusableDocumentError("unsupported_conversation", "its messages have turns of the assistant")
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                (system if message["role"] == "system" else text).append(part["text"])
            elif part["type"] == "image":
                media.append(part["url"])
            else:
                raise UnusableDocumentError(f"unsupported_{part['type']}", f"it has {part['type']}, not only images")
    return "".join(system) or None, "".join(text), media


def _read_visuals(request: Request, doc: Any) -> tuple[str | None, str, list[Any]]:
    """No system text, the context without image placeholders, and a simple task's visuals."""
    try:
        visuals = request.read_doc(doc)
    except Exception as error:
        raise UnusableDocumentError("bad_document", f"its visuals cannot be read: {_reason(error)}") from error
    return None, request.context.replace("<image>", "").strip(), list(visuals or ())


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


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
