"""lmms-eval's instances, read into one shape, and grouped so that questions about an image stand together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.building import flags_of_task
from dualfocus_eval.harness.generation import GenerationLimits, read_generation_kwargs
from dualfocus_eval.harness.structure import Structure, read_structure

__all__ = [
    "ImageKeys",
    "Request",
    "flags_of",
    "group_by_image",
    "is_padding",
    "read_chat",
    "read_simple",
]


@dataclass(frozen=True, eq=False)
class Request:
    """One document of one task, and how to get its media and prompt."""

    task: str
    split: str
    doc_id: int
    context: str
    """The prompt with description and few-shot examples; what simple models are asked."""
    read_doc: Callable[[Any], Any]
    """From the document to messages (chat) or to its visuals (simple)."""
    limits: GenerationLimits | None = None
    """None for loglikelihood requests."""
    structure: Structure = field(default_factory=Structure)
    post_prompts: tuple[str, ...] = ()
    """What the task's own settings say that it puts after a question."""
    pre_prompts: tuple[str, ...] = ()
    """What they say that it puts before one."""

    @property
    def key(self) -> str:
        """Names the question within a run: task and document number."""
        return f"{self.task}/{self.doc_id}"

    @property
    def identity(self) -> tuple[str, str]:
        """Tells requests apart: a task that compares contexts asks several of one document."""
        return self.key, self.context


def read_chat(instance: Any) -> Request:
    """A ``generate_until`` instance for a chat model."""
    context, doc_to_messages, kwargs, doc_id, task, split = instance.args
    limits = read_generation_kwargs(kwargs if isinstance(kwargs, dict) else {}, task)
    return Request(task, split, doc_id, context, doc_to_messages, limits, *_own_word(instance, task))


def read_simple(instance: Any) -> Request:
    """A ``generate_until`` or ``loglikelihood`` instance for a simple model."""
    if len(instance.args) != 6:
        raise UserError(
            f"task {instance.task_name}: unconditional likelihoods (metric acc_mutual_info) are not supported; "
            "remove the metric from the task"
        )
    context, second, doc_to_visual, doc_id, task, split = instance.args
    context = context.removeprefix(flags_of([instance]).get("system_instruction") or "")
    limits = None if instance.request_type == "loglikelihood" else read_generation_kwargs(second or {}, task)
    return Request(task, split, doc_id, context, doc_to_visual, limits, *_own_word(instance, task))


def _own_word(instance: Any, task: str) -> tuple[Structure, tuple[str, ...], tuple[str, ...]]:
    """What the task says of its documents and of its prompts."""
    wording = next((getattr(owner, "lmms_eval_specific_kwargs", None) for owner in _tasks_of(instance)), None)
    settings = wording if isinstance(wording, Mapping) else {}
    post, pre = (
        (text,) if isinstance(text, str) else () for text in (settings.get("post_prompt"), settings.get("pre_prompt"))
    )
    return read_structure(instance.metadata, task), post, pre


def _tasks_of(instance: Any) -> Iterator[Any]:
    """The instance's task, which its bound methods bring along."""
    for argument in instance.args:
        owner = getattr(argument, "__self__", None)
        if owner is not None:
            yield owner


def is_padding(instance: Any) -> bool:
    """Whether lmms-eval added the instance only to give every rank the same number."""
    return bool((instance.metadata or {}).get("__padding_only__"))


def flags_of(instances: Iterable[Any]) -> dict[str, Any]:
    """What the run was asked for, by the names of lmms-eval's command line."""
    tasks = (task for instance in instances for task in _tasks_of(instance))
    return next((flags_of_task(task) for task in tasks if hasattr(task, "asked_for") or hasattr(task, "args")), {})


class ImageKeys:
    """Tells which documents show the same image by hashing stored bytes; nothing is decoded.

    Only the order of work depends on it, never an answer.
    """

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        self._datasets = datasets
        self._images: dict[tuple[str, str], Any] = {}

    def key(self, request: Request) -> str:
        """Equal for documents with equal stored images; unique for one whose images are not in its dataset."""
        place = (request.task, request.split)
        if place not in self._images:
            self._images[place] = _stored_images(self._datasets[request.task][request.split])
        images = self._images[place]
        if images is None:
            return request.key
        digest = hashlib.blake2b(digest_size=16)
        _feed(digest, images[request.doc_id].to_pydict())
        return digest.hexdigest()


def _stored_images(dataset: Any) -> Any:
    """The image columns of a dataset as Arrow tables of encoded bytes, or None when it has none."""
    features = getattr(dataset, "features", None) or {}
    columns = [name for name, feature in features.items() if _holds_images(feature)]
    return dataset.select_columns(columns).with_format("arrow") if columns else None


def _holds_images(feature: Any) -> bool:
    inner = getattr(feature, "feature", None)
    return type(feature).__name__ == "Image" or (inner is not None and _holds_images(inner))


def _feed(digest: Any, value: Any) -> None:
    """Add stored images to ``digest``: their bytes, or their path where no bytes are stored."""
    if isinstance(value, dict) and "bytes" in value:
        _feed(digest, value["bytes"] or str(value.get("path")).encode())
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _feed(digest, item)
    elif isinstance(value, bytes):
        digest.update(len(value).to_bytes(8, "big") + value)


def group_by_image(requests: Sequence[Request], keys: ImageKeys) -> list[Request]:
    """The distinct questions, those about one image together, images in the order in which they first appear."""
    groups: dict[str, dict[tuple[str, str], Request]] = {}
    for request in requests:
        groups.setdefault(keys.key(request), {}).setdefault(request.identity, request)
    return [request for group in groups.values() for request in group.values()]
