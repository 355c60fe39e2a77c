"""Two-pass inference as one writes it first: plain transformers, one conversation at a time, nothing reused.

It does the same work as the pipeline (macro answer, box, micro answer, both candidates scored) and gets the same
answers. Within one `generate` it has transformers' own key/value cache, and output layers run over the tokens that are
asked for only, so that what it lacks is reuse between conversations and batching, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dualfocus_eval.engines.base import Completion, Conversation, Picture
from dualfocus_eval.method.boxes import parse_box
from dualfocus_eval.method.conversations import macro_conversation
from dualfocus_eval.method.crops import crop_of, crop_picture
from dualfocus_eval.method.grounding.base import Exchange
from dualfocus_eval.method.grounding.text_box import grounding_conversation
from dualfocus_eval.method.prompts import grounding_prompt
from dualfocus_eval.method.question import Question
from dualfocus_eval.method.second_pass.append_crop import APPEND_CROP
from dualfocus_eval.method.second_pass.base import Zoom
from measurements.performance_model import BOX_TOKENS, PROMPT_SET, apart

__all__ = ["Answer", "NaiveTwoPass"]


@dataclass(frozen=True)
class Answer:
    """Token ids of what was generated, and the token log-probabilities of both candidates in micro context."""

    macro: tuple[int, ...]
    grounding_response: tuple[int, ...]
    micro: tuple[int, ...]
    scores: tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class NaiveTwoPass:
    """``boxes`` are the texts that A1 is read as, by Q1."""

    model: Any
    processor: Any
    boxes: Mapping[str, str]

    @torch.inference_mode()
    def answer(self, question: Question) -> Answer:
        """Both passes and the scores for one question."""
        macro = self._generate(macro_conversation(question), question.max_new_tokens)
        asked = grounding_conversation(question, PROMPT_SET)
        grounding_response = self._generate(asked, BOX_TOKENS)
        (picture,) = question.images
        size = picture.pixels.size
        box = parse_box(self.boxes[grounding_prompt(question, PROMPT_SET)], "unit", image_size=size).box
        assert box is not None
        crop = crop_of(box, size)
        assert crop is not None
        told = Exchange(asked, Completion("", grounding_response, (), "length"))
        zoom = Zoom(box, crop, crop_picture(picture, crop), told)
        micro = self._generate(APPEND_CROP.conversation(question, zoom, PROMPT_SET), question.max_new_tokens)
        micro = apart(micro, len(self.processor.tokenizer))
        context = APPEND_CROP.scoring_context(question, zoom, PROMPT_SET)
        return Answer(macro, grounding_response, micro, (self._score(context, macro), self._score(context, micro)))

    def _generate(self, conversation: Conversation, tokens: int) -> tuple[int, ...]:
        inputs = self._inputs(conversation)
        output = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return tuple(output[0, inputs["input_ids"].shape[1] :].tolist())

    def _score(self, conversation: Conversation, candidate: Sequence[int]) -> tuple[float, ...]:
        inputs = self._inputs(conversation)
        told = torch.tensor([candidate], device=self.model.device)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], told], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        logits = self.model(**inputs, use_cache=False, logits_to_keep=len(candidate) + 1).logits[0, :-1].float()
        return tuple(torch.log_softmax(logits, dim=-1).gather(1, told[0].unsqueeze(1))[:, 0].tolist())

    def _inputs(self, conversation: Conversation) -> dict[str, torch.Tensor]:
        """Model inputs of the processor; a generated turn stands as its ids between the texts before and after it."""
        turn = next((i for i, message in enumerate(conversation) if message.token_ids is not None), None)
        if turn is None:
            parts = [self._processed(self._template(conversation), conversation, first=True)]
            ids = parts[0]["input_ids"]
        else:
            told = conversation[turn].token_ids
            before = self._template(conversation[:turn])
            after = self._template(conversation, answer="MARKER").split("MARKER")[1]
            parts = [
                self._processed(before, conversation[:turn], first=True),
                self._processed(after, conversation[turn:], first=False),
            ]
            ids = torch.cat([parts[0]["input_ids"], torch.tensor([told]), parts[1]["input_ids"]], dim=1)
        pixels = torch.cat([part["pixel_values"] for part in parts])
        model = self.model
        return {
            "input_ids": ids.to(model.device),
            "attention_mask": torch.ones_like(ids).to(model.device),
            "pixel_values": pixels.to(model.device, model.dtype),
        }

    def _processed(self, text: str, messages: Conversation, *, first: bool) -> Any:
        pictures = [part.pixels for message in messages for part in message.content if isinstance(part, Picture)]
        return self.processor(text=text, images=pictures, add_special_tokens=first, return_tensors="pt")

    def _template(self, conversation: Conversation, answer: str = "") -> str:
        messages = []
        for message in conversation:
            parts = (answer,) if message.token_ids is not None else message.content
            content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in parts]
            messages.append({"role": message.role, "content": content})
        return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
