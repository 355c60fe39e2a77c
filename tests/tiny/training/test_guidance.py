"""Guided attention: the loss says what it claims, and teaches where to look."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import torch

from dualfocus_eval.tiny.training.collator import ConversationCollator, SampleEncoder
from dualfocus_eval.tiny.training.from_nothing import build_model
from dualfocus_eval.tiny.training.guidance import GUIDES, LOUDNESS, GuidedLoss, hand_over
from dualfocus_eval.tiny.training.scene_conversations import SceneConversations
from tests.tiny.training.conftest import SHAPE


@pytest.fixture
def batch(processor: Any) -> dict[str, torch.Tensor]:
    samples = SceneConversations(5, 0, 8, {"grounding": 1, "dualfocus": 2}, prompt_set="released", margin=12.0)
    encode = SampleEncoder(processor, SHAPE.image_size)
    return ConversationCollator(processor)([encode(sample)[0] for sample in samples])


@pytest.fixture
def model(processor: Any) -> Any:
    torch.manual_seed(0)
    return build_model(processor.tokenizer, replace(SHAPE, text_layers=4))


def test_the_loss_is_the_answers_and_the_attention_off_their_evidence(model: Any, batch: Any) -> None:
    """Against plain loops; the model has four layers of two heads, which take turns."""
    found = GuidedLoss(model, 0.5)(model, batch)
    plain = model(**{name: batch[name] for name in batch if name not in GUIDES}, output_attentions=True)
    nouns, boxes, words, _ = plain.attentions
    losses: dict[str, list[tuple[torch.Tensor, float]]] = defaultdict(list)
    for row in range(len(batch["input_ids"])):
        for query in range(batch["input_ids"].shape[1] - 1):
            target, weight = batch["labels"][row, query + 1], float(batch["weight"][row, query])
            evidence, subjects = batch["evidence"][row, query], batch["subjects"][row, query]
            if target >= 0:
                losses["answer"].append((-plain.logits[row, query].log_softmax(-1)[target], weight))
            if subjects.any():
                losses["subject"].append((-nouns[row, 0, query, subjects].sum().log(), weight))
            grounding = bool(batch["grounding"][row, query])
            seen = (boxes if grounding else words)[row, :, query, evidence].sum(-1)  # (heads,)
            aspect = int(batch["aspect"][row, query])
            if evidence.any() and grounding:
                head = int(batch["order"][row, query]) // 2 % 2
                losses["box"].append((-seen[head].log() - (1 - seen[1 - head]).log(), weight))
            elif evidence.any() and aspect >= 0:
                losses["aspect"].append((-seen[aspect % 2].log() - (1 - seen[1 - aspect % 2]).log(), weight))
            elif evidence.any():
                losses["word"].append((-seen.mean().log(), weight))
    means = {
        name: sum(loss * weight for loss, weight in pairs) / sum(weight for _, weight in pairs)
        for name, pairs in losses.items()
    }
    guidance = means["subject"] + means["box"] + means["aspect"] + means["word"]
    torch.testing.assert_close(found["answer_loss"], means["answer"])
    # The loss adds a millionth to every share of attention, for its gradient.
    torch.testing.assert_close(found["guidance_loss"], guidance, rtol=1e-4, atol=0)
    torch.testing.assert_close(found["loss"], means["answer"] + 0.5 * guidance, rtol=1e-4, atol=0)


def test_it_teaches_where_to_look(model: Any, batch: Any) -> None:
    guided = GuidedLoss(model, 1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        output = guided(model, batch)
        optimizer.zero_grad()
        output["loss"].backward()
        optimizer.step()
        losses.append(float(output["guidance_loss"]))
    assert losses[-1] < losses[0] - 0.5


def test_a_batch_without_guides_has_only_its_answers(model: Any, batch: Any) -> None:
    blind = batch | {name: torch.zeros_like(batch[name]) for name in ("evidence", "subjects")}
    output = GuidedLoss(model, 1.0)(model, blind)
    torch.testing.assert_close(output["loss"], output["answer_loss"])


def test_without_guidance_attention_is_left_alone(model: Any, batch: Any) -> None:
    """The fast implementation stays, and the loss is that of the answers."""
    plain = GuidedLoss(model, 0.0)(model, batch)
    assert model.config._attn_implementation == "sdpa"
    assert plain.keys() == {"loss"}
    torch.testing.assert_close(plain["loss"], GuidedLoss(model, 1.0)(model, batch)["answer_loss"])


def patch_features(model: Any) -> torch.Tensor:
    pixels = torch.ones(1, 3, SHAPE.image_size, SHAPE.image_size)
    return torch.cat(tuple(model.model.get_image_features(pixels).pooler_output)).detach()


def test_handed_over_heads_say_what_the_classifiers_read(model: Any) -> None:
    """A map of no higher rank than a head is handed over whole, up to its strength."""
    width, size = SHAPE.text_width, SHAPE.text_width // SHAPE.text_heads
    slots = ("x1", "y1", "x2", "y2", "mark_color", "mark_shape", "mark_size", "color")
    maps = {slot: torch.randn(width, size) @ torch.randn(size, width) for slot in slots}
    features = patch_features(model)
    hand_over(model, maps)
    torch.testing.assert_close(patch_features(model), LOUDNESS * features)
    layers = model.model.language_model.layers
    for layer, first, second in ((1, "x1", "y1"), (2, "mark_color", "mark_shape")):
        attention = layers[layer].self_attn
        for head, slot in enumerate((first, second)):
            rows = slice(head * size, (head + 1) * size)
            product = attention.o_proj.weight[:, rows] @ attention.v_proj.weight[rows]
            torch.testing.assert_close(product / product.norm(), maps[slot] / maps[slot].norm())
            said = torch.randn(2000, width) @ product.T.detach()
            assert 0.15 < float(said.pow(2).mean().sqrt()) < 0.25
