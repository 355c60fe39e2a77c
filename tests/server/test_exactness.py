"""A real server gives the answers of the engine in this process; docs/exactness.md has the long form."""

from __future__ import annotations

import pytest

from measurements.server_exactness import SETS, agreement
from tests.server.conftest import QUESTIONS, Compared

pytestmark = pytest.mark.server


def test_answers_equal_those_in_process(compared: Compared) -> None:
    found = agreement(compared.in_process / "traces", compared.server / "traces")
    assert found.holds, found
    assert QUESTIONS <= found.questions < QUESTIONS + SETS[compared.task]
