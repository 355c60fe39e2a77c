"""Random models that write the box of the known object: only the logits are helped, all else is the real path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import GenerationConfig

from dualfocus_eval.check.probes import Probe, embedded_probes
from dualfocus_eval.engines.checkpoint import prepare
from dualfocus_eval.engines.in_process import engine_of
from dualfocus_eval.engines.local import LocalEngine
from dualfocus_eval.families import FAMILIES, Family, box_conventions
from dualfocus_eval.method.boxes import format_box
from dualfocus_eval.method.prompts import PROMPT_SETS
from measurements.random_models import build

__all__ = ["different_probes", "forced_engine"]

_ASKED, _SECOND = PROMPT_SETS["released"].grounding, PROMPT_SETS["released"].micro


def different_probes() -> list[Probe]:
    """One probe for each of nine objects, so that the text of a prompt tells which image it is about."""
    probes = {probe.question.stem: probe for probe in embedded_probes(1000)}
    return [replace(probe, question=replace(probe.question, max_new_tokens=4)) for probe in probes.values()][:9]


@dataclass(frozen=True)
class _WriteBox:
    """A logits processor: after a grounding prompt the tokens of ``answers`` by stem are by far the likeliest."""

    tokenizer: Any
    answers: Mapping[str, Sequence[int]]
    end: int
    prompt_length: int
    seen: dict[tuple[int, ...], Sequence[int]]

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        for row, logits in zip(ids.tolist(), scores, strict=True):
            wanted = self._wanted(tuple(row[: self.prompt_length]))
            if wanted:
                logits[wanted[min(len(row) - self.prompt_length, len(wanted) - 1)]] += 1000.0
        return scores

    def _wanted(self, prompt_ids: tuple[int, ...]) -> Sequence[int]:
        """The tokens of the box that the prompt asks for, the end token included; none after other prompts."""
        if prompt_ids not in self.seen:
            prompt = self.tokenizer.decode(prompt_ids)
            asked = _ASKED in prompt and _SECOND not in prompt
            stems = [stem for stem in self.answers if asked and stem in prompt]
            self.seen[prompt_ids] = [*self.answers[stems[0]], self.end] if stems else []
        return self.seen[prompt_ids]


def forced_engine(
    architecture: str, probes: Sequence[Probe], convention: str | None = None, family: Family | None = None
) -> LocalEngine:
    """A random model of ``family`` that writes each probe's box in ``convention``, by default the family's."""
    family = family or FAMILIES[architecture]
    model, processor = build(architecture)
    end = processor.tokenizer.eos_token_id
    # Any other end token of the random model may be a part of a box.
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end)
    engine = engine_of(prepare(model, processor, family, architecture), 16, 1 << 28)
    notation = convention or family.box_convention.name
    in_pixels = box_conventions()[notation].scale is None
    answers: dict[str, list[int]] = {}
    for probe in probes:
        (picture,) = probe.question.images
        assert probe.truth
        box = format_box(
            probe.truth,
            notation,
            image_size=picture.pixels.size,
            encoded_size=engine.encoded_size(picture) if in_pixels else None,
        )
        answers[probe.question.stem] = processor.tokenizer(f"A {box}", add_special_tokens=False)["input_ids"]
    seen: dict[tuple[int, ...], Sequence[int]] = {}
    plain = model._get_logits_processor

    def helped(generation_config: Any, input_ids_seq_length: int, **kwargs: Any) -> Any:
        found = plain(generation_config, input_ids_seq_length=input_ids_seq_length, **kwargs)
        found.append(_WriteBox(processor.tokenizer, answers, end, input_ids_seq_length, seen))
        return found

    model._get_logits_processor = helped
    return engine
