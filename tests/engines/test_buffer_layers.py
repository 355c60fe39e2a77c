"""What a buffer's layers give and take: keys and values in slots, recurrent states whole; parts on the same memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dualfocus_eval.engines.base import GenerateRequest, Message, ScoreRequest
from dualfocus_eval.engines.checkpoint import Checkpoint
from dualfocus_eval.engines.in_process import TransformersEngine
from dualfocus_eval.engines.kv_buffer import KeyValueBuffer
from dualfocus_eval.engines.prefix_cache import Segment
from tests.engines.test_rendering import BLUE, RED

HEADS, SIZE, CHANNELS, KERNEL = 2, 4, 6, 4


def states(tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of an attention layer and a recurrent one."""
    return [
        (torch.randn(HEADS, tokens, SIZE), torch.randn(HEADS, tokens, SIZE)),
        (torch.randn(CHANNELS, KERNEL), torch.randn(HEADS, SIZE, SIZE)),
    ]


def equal(found: list[tuple[torch.Tensor, torch.Tensor]], wanted: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return all(torch.equal(a, b) for one, two in zip(found, wanted, strict=True) for a, b in zip(one, two, strict=True))


@pytest.fixture
def buffer() -> tuple[KeyValueBuffer, Segment, Segment]:
    """Four rows, three of them with cached beginnings of 5, 3 and 5 tokens, that go on with 2, 2, 7 and 7 tokens."""
    short = Segment("short", None, 3, states(3))
    long = Segment("long", short, 5, states(2))
    return KeyValueBuffer(2, [long, short, long, None], [2, 2, 7, 7], recurrent={1}), short, long


def test_rows_go_on_from_their_beginnings(buffer: tuple[KeyValueBuffer, Segment, Segment]) -> None:
    whole, short, long = buffer
    assert equal(whole.slice(0, 3, 5), long.layers)
    assert equal(whole.slice(1, 2, 5), short.layers)
    (keys, _), _ = whole.slice(0, 0, 3)
    assert torch.equal(keys, short.layers[0][0])
    _, nothing = whole.slice(3, 0, 0)
    assert not any(state.any() for state in nothing)
    assert whole.mask.sum(dim=1).tolist() == [7, 5, 12, 7]


def test_rows_with_a_recurrent_state_go_on_together_where_no_padding_is_between(
    buffer: tuple[KeyValueBuffer, Segment, Segment],
) -> None:
    whole, short, long = buffer
    parts = list(whole.parts())
    assert [(rows.start, rows.stop, width) for rows, width, _ in parts] == [(0, 2, 2), (2, 3, 7), (3, 4, 7)]
    assert all(part.mask[:, -width:].all() for _, width, part in parts)
    attention_only = KeyValueBuffer(1, [long, short, long, None], [2, 2, 7, 7])
    assert [(rows, part) for rows, _, part in attention_only.parts()] == [(slice(0, 4), attention_only)]
    from_nothing = KeyValueBuffer(2, [None] * 2, [2, 7], recurrent={1})
    assert [part for _, _, part in from_nothing.parts()] == [from_nothing]


def test_a_part_fills_the_whole(buffer: tuple[KeyValueBuffer, Segment, Segment]) -> None:
    whole, _, _ = buffer
    for rows, width, part in whole.parts():
        count = rows.stop - rows.start
        new = torch.full((count, HEADS, width, SIZE), float(rows.start + 1))
        keys, _ = part.update(new, new, 0)
        assert keys.shape[-2] == whole.prefix_slots + whole.suffix_slots == 12
        part.update_conv_state(torch.full((count, CHANNELS, width), 7.0), 1)
        part.update_recurrent_state(torch.full((count, HEADS, SIZE, SIZE), float(rows.start)), 1)
    assert whole.get_seq_length() == 12
    for row, (start, value) in enumerate([(10, 1.0), (10, 1.0), (5, 3.0), (5, 4.0)]):
        (keys, _), (convolution, recurrent) = whole.slice(row, start, 12)
        assert (keys == value).all()
        assert (convolution[:, -2:] == 7.0).all()
        assert (recurrent == (0.0, 0.0, 2.0, 3.0)[row]).all()
    whole.keep([3, 1])
    (keys, _), (_, recurrent) = whole.slice(0, 5, 12)
    assert (keys == 4.0).all()
    assert (recurrent == 3.0).all()


def test_states_are_stored_where_a_pass_ends_and_after_an_answer(checkpoint_of: Callable[..., Checkpoint]) -> None:
    engine = TransformersEngine(checkpoint_of("qwen3_5"), 4, 1 << 30)
    first = (Message("user", (RED, "please provide the box")),)
    (box,) = engine.generate([GenerateRequest(first, 6)])
    told = Message("assistant", (box.text,), box.token_ids)
    second = (*first, told, Message("user", (BLUE, "what colour is it")))
    before = engine.counters.tokens_reused
    engine.generate([GenerateRequest(second, 4)])
    fed = len(engine.prompt_ids(first)) + len(box.token_ids) - 1
    assert engine.counters.tokens_reused - before == fed
    before, computed = engine.counters.tokens_reused, engine.counters.tokens_prefilled
    engine.score([ScoreRequest(second, (30, 31)), ScoreRequest(second, (40,))])
    # Both rows go on from the crop's end; what they have in common after it is computed once, without its last token.
    after_crop = len(engine.prompt_ids(second)) - engine._renderer.render(second).spans[1][1]
    assert engine.counters.tokens_prefilled - computed == after_crop - 1 + 2 + 1
