"""A loaded model that answers questions in two passes, as an evaluation does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from dualfocus_eval.api.answer import Answer
from dualfocus_eval.api.asking import Asked, ImageSource, QuestionText, ask_about
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.threads import results_of
from dualfocus_eval.engines.base import Counters
from dualfocus_eval.engines.starting import start_engine
from dualfocus_eval.harness.arguments import RunConfig, resolve
from dualfocus_eval.harness.calibrated import fitting_calibration
from dualfocus_eval.harness.fitting import fitting_settings
from dualfocus_eval.harness.store_key import StoreKey
from dualfocus_eval.method.pipeline import answer
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.traces.store import TraceStore

__all__ = ["Model", "load"]


def load(pretrained: str | os.PathLike[str] | None = None, **model_args: Any) -> Model:
    """Load a checkpoint for `Model.ask`.

    ``pretrained`` is a checkpoint folder or a hub id; without it the embedded checkpoint is loaded. ``model_args`` are
    those of ``--model_args``, with the same names, defaults and order of precedence: argument, recipe, the checkpoint's
    ``dualfocus.json``, family, default. ``batch_size`` is the number of questions that `Model.ask_batch` answers
    together. Names of an earlier version give a warning. Answers are stored, and reused, only with ``trace_dir``.

    Raises ``UserError`` for an argument that is unknown or has a wrong value, and for a checkpoint that cannot be used.
    """
    given = model_args | ({} if pretrained is None else {"pretrained": pretrained})
    config = resolve(
        {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in given.items()}
    )
    for warning in config.warnings:
        warnings.warn(warning, stacklevel=2)
    return Model(config)


class Model:
    """A loaded checkpoint with its settings; made by `load`. Answers do not depend on what was asked before."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._engine = start_engine(config.engine)
        self._calibration, settings, told = fitting_calibration(
            config.calibration, config.settings, self._engine, config.sources.get("selection", "default")
        )
        self._settings, unscored = fitting_settings(settings, self._engine)
        for warning in (*told, *unscored):
            warnings.warn(warning, stacklevel=3)
        self._key = StoreKey.of(self._settings, self._engine)
        self._store: TraceStore | None = None

    @property
    def settings(self) -> Settings:
        """How questions are answered: strategy, selection rule, prompts, boxes, crops."""
        return self._settings

    @property
    def counters(self) -> Counters:
        """What the engine has done so far: images encoded, tokens prefilled and reused, seconds by phase."""
        return self._engine.counters

    def ask(
        self,
        image: ImageSource,
        question: str,
        options: Sequence[str] | None = None,
        *,
        max_new_tokens: int = 16,
    ) -> Answer:
        """Answer ``question`` about ``image``.

        ``image`` is the path of a file, its bytes, a PIL image, or an array of shape (height, width, 3) in uint8. It is
        opened as an evaluation opens it: rotated as its EXIF data say, transparent parts on white. The file of an
        animation is refused; of a PIL image the current frame counts. ``question`` is the bare question: the format
        hint of the tasks ("Answer the question using a single word or phrase.") is added. With two or more different
        ``options`` it is a multiple-choice question, lettered in their order, and the answer is a letter. An answer
        ends after ``max_new_tokens`` tokens.

        Raises ``UserError`` for an empty question, options that cannot be told apart, an image that cannot be opened,
        and a question that the model could not answer.
        """
        text = QuestionText.of(question, options)
        (found,) = self.answer([ask_about(image, text, max_new_tokens=max_new_tokens)])
        if found.failure:
            raise UserError(found.failure.message)
        return found

    def ask_batch(
        self,
        asked: Iterable[tuple[ImageSource, str] | tuple[ImageSource, str, Sequence[str] | None]],
        *,
        max_new_tokens: int = 16,
    ) -> list[Answer]:
        """Answer many questions, each an (image, question) or (image, question, options); answers in their order.

        Batches and the reuse of what images and prompts share are those of an evaluation: questions about one image
        stand together, ``batch_size`` of them at a time. They change no answer. An image that cannot be opened, or a
        question that the model could not answer, becomes the ``failure`` of its answer and costs no other one.

        Raises ``UserError``, before anything is computed, for an empty question and for options as in `ask`.
        """
        worded = [_worded(number, one) for number, one in enumerate(asked, 1)]
        return self.answer(
            [
                ask_about(image, text, max_new_tokens=max_new_tokens, name=f"image {number}")
                for number, (image, text) in enumerate(worded, 1)
            ]
        )

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Answer questions whose images are opened already (`api.asking.ask_about`); answers in their order."""
        groups: dict[Any, list[int]] = {}
        for place, one in enumerate(asked):
            groups.setdefault(one.question.images, []).append(place)
        ordered = [place for group in groups.values() for place in group]
        if self._config.trace_dir and not self._store:
            self._store = self._key.open_store(self._config.trace_dir)
        size = self._engine.questions_per_call(self._config.batch_size)
        batches = (ordered[begin : begin + size] for begin in range(0, len(ordered), size))
        answers: dict[int, Answer] = {}
        for batch, found in results_of(
            lambda batch: (batch, self._answer_batch([asked[place] for place in batch])),
            batches,
            self._engine.parallel_calls,
            self._engine.interrupt,
        ):
            answers |= zip(batch, found, strict=True)
        return [answers[place] for place in range(len(asked))]

    def _answer_batch(self, asked: Sequence[Asked]) -> list[Answer]:
        given = self._config.system_prompt  # else a task's question keeps its own
        questions = [replace(one.question, system=given or one.question.system) for one in asked]
        key = self._key.settings_key
        traces = answer(
            questions,
            self._engine.call_engine(),
            self.settings,
            settings_key=key,
            store=self._store,
            fitted=self._calibration,
        )
        return [
            Answer(question, trace, self.settings.selection, one.source, self._calibration)
            for one, question, trace in zip(asked, questions, traces, strict=True)
        ]

    def close(self) -> None:
        """Write and release the trace files of ``trace_dir``, and the connections to servers."""
        self._engine.close()
        if self._store:
            self._store.close()
        self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        settings = self.settings
        return f"Model({self._config.engine.described!r}, strategy={settings.strategy}, selection={settings.selection})"


def _worded(number: int, asked: Any) -> tuple[ImageSource, QuestionText]:
    if not isinstance(asked, tuple | list) or len(asked) not in (2, 3):
        raise UserError(f"question {number} is not (image, question) or (image, question, options)")
    try:
        return asked[0], QuestionText.of(*asked[1:])
    except UserError as error:
        raise UserError(f"question {number}: {error}") from None
