"""The engines on a GPU: no operation is over tensors of two devices, and the answers are those of the CPU.

Where there is no GPU, tensors claim to be on one (`measurements.claimed_device`).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from measurements.claimed_device import claimed_device
from measurements.exactness import random_checkpoint
from measurements.gpu.runs import Workload, refuse_failures, run_questions
from measurements.performance import SETTINGS
from measurements.random_models import ARCHITECTURES

WORK = Workload.of(2, 2, 64)
SHORT = replace(SETTINGS, max_box_tokens=3)


def _answers(architecture: str, device: str) -> list[tuple[int, ...]]:
    checkpoint = random_checkpoint(architecture, torch.float32, device)
    traces, counters = run_questions(checkpoint, WORK, 2, 1 << 30, SHORT)
    refuse_failures(traces, counters)
    found = [(t.macro, t.grounding and t.grounding.response, t.micro) for t in traces]
    return [completion.token_ids if completion else () for answers in found for completion in answers]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_those_of_the_cpu(architecture: str) -> None:
    if architecture.endswith("_moe") and not torch.cuda.is_available():
        pytest.skip("kernels for experts ask the driver what the GPU can do")
    with nullcontext() if torch.cuda.is_available() else claimed_device():
        given = _answers(architecture, "cuda")
    assert given == _answers(architecture, "cpu")
    assert all(given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is real")
def test_a_tensor_left_on_the_cpu_is_noticed() -> None:
    with claimed_device():
        weights, bias = torch.ones(2, 3, device="cuda"), torch.ones(3)
        assert weights.device.type == "cuda"
        assert (weights + bias.to("cuda") + 1).tolist() == [[3.0] * 3] * 2
        assert weights[torch.tensor([1, 0])].cpu().tolist() == [[1.0] * 3] * 2
        with pytest.raises(RuntimeError, match="different devices"):
            weights + bias
        with pytest.raises(RuntimeError, match="values on the CPU"):
            weights[0] = bias
        with pytest.raises(RuntimeError, match="different devices"):
            bias[torch.tensor([0], device="cuda")]
    assert torch.ones(1).device.type == "cpu"
