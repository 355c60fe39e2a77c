"""Numbers in records that are read back from JSON: their bounds, and what stands for one that is not finite.

The types are those of the plain values. What they add is for pydantic, which validates the records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field, GetPydanticSchema, Strict
from pydantic_core import core_schema

__all__ = ["Flag", "Integer", "Logprobs", "Number", "TokenIds"]

LARGEST = 2**53
"""Numbers beyond it are damage: integers stop being exact as floats there, and sums of greater ones overflow."""

Flag = Annotated[bool, Strict()]
Integer = Annotated[int, Strict(), Field(ge=-LARGEST, le=LARGEST)]
Number = Annotated[float, Strict(), Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
TokenIds = tuple[Integer, ...]


def _logprobs_schema(source: Any, handler: Callable[[Any], core_schema.CoreSchema]) -> core_schema.CoreSchema:
    number = core_schema.float_schema(strict=True, ge=-LARGEST, le=LARGEST, allow_inf_nan=False)
    values = core_schema.tuple_variable_schema(core_schema.nullable_schema(number))
    return core_schema.no_info_after_validator_function(_null_as_nan, values)


def _null_as_nan(values: tuple[float | None, ...]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else value for value in values)


Logprobs = Annotated[tuple[float, ...], GetPydanticSchema(_logprobs_schema)]
"""Token log-probabilities in nats. JSON has no NaN and no infinity: null stands for both, and is read as NaN."""
