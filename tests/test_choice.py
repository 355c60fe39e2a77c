"""What `tests/conftest.py` names is there."""

from __future__ import annotations

import pytest

from tests.conftest import NOT_QUICK, QUICK_FOLDERS, ROOT, SLOW


@pytest.mark.parametrize("name", [*SLOW, *QUICK_FOLDERS, *NOT_QUICK])
def test_every_name_is_of_a_test(name: str) -> None:
    place, _, test = name.partition("::")
    assert (ROOT / place).exists()
    assert not test or f"def {test.partition('[')[0]}" in (ROOT / place).read_text()
