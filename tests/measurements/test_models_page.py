"""README and docs/models.md name the families of the registry and the recipes, and what lmms-eval's classes do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualfocus_eval.families import FAMILIES
from measurements.models_page import PAGE, sentence, tables
from tests.integration.test_parity import REFERENCES

README = Path(__file__).parents[2] / "README.md"


def test_the_page_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name, table in tables().items() if table not in page] == [], (
        "python -m measurements.models_page --write"
    )


def test_the_readme_names_the_models() -> None:
    assert sentence() in " ".join(README.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", FAMILIES.items)
def test_a_family_has_a_title_and_its_example_is_a_hub_id(name: str) -> None:
    family = FAMILIES[name]
    assert family.title
    assert family.example.count("/") == (1 if family.example else 0)


@pytest.mark.parametrize("architecture", REFERENCES)
def test_the_page_tells_what_is_compared_with_lmms_evals_class(architecture: str) -> None:
    told = f"| `{architecture}` | `{REFERENCES[architecture].name}` | compared |"
    assert told in PAGE.read_text(encoding="utf-8")
