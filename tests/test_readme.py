"""The README: its arguments, commands, links and places are those of the package."""

import re
from pathlib import Path

import pytest

from dualfocus_eval.harness.arguments import ARGUMENTS, check
from dualfocus_eval.recipe import recipe_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_every_model_argument_is_explained() -> None:
    names = [
        name
        for line in README.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert sorted(names) == sorted(ARGUMENTS)


def test_the_commands_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"make ([a-z]+)", README)
    assert {"demo", "test"} <= set(named) <= set(targets)
    for recipe in re.findall(r"recipe=([\w.-]+)", README):
        assert recipe in recipe_names()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid(name: str) -> None:
    check({"recipe": name, "pretrained": "a-folder"})
