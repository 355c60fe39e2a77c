"""What a run says of the machine and the versions that it ran with."""

import json
from types import SimpleNamespace

import pytest
import torch

from dualfocus_eval.harness import environment
from dualfocus_eval.harness.environment import environment_of

MODEL = SimpleNamespace(device=torch.device("cpu"), dtype=torch.bfloat16)


def test_it_names_what_decides_the_numbers() -> None:
    found = environment_of(MODEL)
    assert found["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert (found["device"], found["dtype"], found["threads"]) == ("cpu", "bfloat16", torch.get_num_threads())
    assert json.loads(json.dumps(found)) == found
    assert environment_of(MODEL) == found


def test_a_processor_without_a_name_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "Path", lambda place: SimpleNamespace(read_text=_refuse))
    assert environment_of(MODEL)["processor"]


def _refuse(**_: str) -> str:
    raise OSError
