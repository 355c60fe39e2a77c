"""Counting without computing gives torch's own count."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from dualfocus_eval.engines.checkpoint import prepare
from dualfocus_eval.families import FAMILIES
from dualfocus_eval.method.pipeline import answer
from measurements.flop_count import count_flops
from measurements.naive import NaiveTwoPass
from measurements.performance import SETTINGS
from measurements.performance_model import ScriptedEngine, questions
from measurements.sized_models import build


def test_counts_equal_those_of_a_real_run_and_answers_agree() -> None:
    model, processor = build("llava", "tiny")
    checkpoint = prepare(model, processor, FAMILIES["llava"], "tiny")
    asked, boxes = questions(1, 2, seed=0)
    naive = NaiveTwoPass(model, processor, boxes)

    def ours():
        return answer(asked, ScriptedEngine(checkpoint, 4, 1 << 30, boxes), SETTINGS)

    def theirs():
        return [naive.answer(question) for question in asked]

    for run in (ours, theirs):
        with FlopCounterMode(display=False) as counter:
            run()
        assert count_flops(run)[0] == counter.get_total_flops() > 0
    for trace, wanted in zip(ours(), theirs(), strict=True):
        assert trace.macro.token_ids == wanted.macro
        assert trace.grounding.response.token_ids == wanted.grounding_response
        assert trace.micro.token_ids == wanted.micro
        assert trace.scores is not None
        for given, score in zip((trace.scores.macro, trace.scores.micro), wanted.scores, strict=True):
            assert torch.allclose(torch.tensor(given), torch.tensor(score), atol=1e-4)
