from typing import Any

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.harness.generation import GenerationLimits, read_generation_kwargs


@pytest.mark.parametrize(
    ("kwargs", "limits"),
    [
        ({"max_new_tokens": 16, "temperature": 0, "do_sample": False, "until": ["\n\n", "Q:"]}, (16, ("\n\n", "Q:"))),
        ({"max_new_tokens": 128, "temperature": 0.0, "top_p": 1.0, "num_beams": 1}, (128, ())),
        ({"max_new_tokens": 32.0}, (32, ())),
        ({"until": None}, (1024, ())),
        ({"until": "\n"}, (1024, ("\n",))),
        ({"until": ["", "###"], "temperature": None, "num_beams": None}, (1024, ("###",))),
        ({"do_sample": True, "temperature": 0}, (1024, ())),
    ],
)
def test_greedy_limits(kwargs: dict[str, Any], limits: tuple[int, tuple[str, ...]]) -> None:
    assert read_generation_kwargs(kwargs, "pope") == GenerationLimits(*limits)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"temperature": 0.7}, "task pope: generation argument temperature=0.7 .* --gen_kwargs temperature=0"),
        ({"num_beams": 4}, "num_beams=4 .* --gen_kwargs num_beams=1"),
        ({"repetition_penalty": 1.2}, "repetition_penalty=1.2"),
        ({"do_sample": True}, "do_sample=True"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be a whole number, 1 or more"),
        ({"max_new_tokens": 10.7}, "max_new_tokens=10.7 must be a whole number"),
        ({"max_new_tokens": "few"}, "max_new_tokens='few' is not a number"),
        ({"max_new_tokens": float("inf")}, "max_new_tokens=inf is not a number"),
        ({"temperature": "cold"}, "temperature='cold' is not a number"),
        ({"num_beams": [1]}, r"num_beams=\[1\] is not a number"),
    ],
)
def test_what_is_not_greedy_is_refused_by_name(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_generation_kwargs(kwargs, "pope")
