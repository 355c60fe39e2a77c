"""What a run says of the machine and the versions that it ran with."""

import json
from types import SimpleNamespace

import pytest
import torch

from dualfocus_eval.engines import environment
from dualfocus_eval.engines.environment import COMPUTING, arithmetic_of, environment_of
from measurements.random_models import ARCHITECTURES, build


def _with_attention(**parts: str) -> SimpleNamespace:
    """What is asked of a model whose parts use these implementations."""
    parts_used = [
        SimpleNamespace(config=type(name, (), {"_attn_implementation": used})()) for name, used in parts.items()
    ]
    return SimpleNamespace(
        device=torch.device("cpu"), dtype=torch.bfloat16, modules=lambda: [SimpleNamespace(), *parts_used]
    )


MODEL = _with_attention(Text="sdpa", Vision="sdpa")


def test_it_names_what_decides_the_numbers() -> None:
    found = environment_of(MODEL)
    assert found["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert (found["device"], found["dtype"], found["threads"]) == ("cpu", "bfloat16", torch.get_num_threads())
    assert found["attention"] == "sdpa"
    assert json.loads(json.dumps(found)) == found
    assert environment_of(MODEL) == found


def test_the_arithmetic_is_what_a_stored_answer_must_share() -> None:
    found = arithmetic_of(MODEL)
    assert found["torch"] == environment_of(MODEL)["packages"]["torch"]
    assert found.keys() - COMPUTING == {"dtype", "attention", "device", "float32_matmul"}
    assert arithmetic_of(MODEL, adapter=True).keys() - found.keys() == {"peft"}


def test_every_part_s_attention_counts() -> None:
    assert arithmetic_of(_with_attention(Text="eager", Vision="sdpa"))["attention"] == "Text: eager, Vision: sdpa"
    assert arithmetic_of(_with_attention(Text="sdpa", Vision="eager"))["attention"] == "Text: sdpa, Vision: eager"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_attention_in_use_is_found(architecture: str) -> None:
    model, _ = build(architecture)
    assert arithmetic_of(model)["attention"] == "sdpa"
    model.set_attn_implementation("eager")
    assert arithmetic_of(model)["attention"] == "eager"


def test_a_processor_without_a_name_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "Path", lambda place: SimpleNamespace(read_text=_refuse))
    assert environment_of(MODEL)["processor"]


def _refuse(**_: str) -> str:
    raise OSError
