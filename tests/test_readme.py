"""The README and the other pages: their commands, links and places are those of the package."""

import re
from pathlib import Path

import pytest
import yaml

from dualfocus_eval.harness.arguments import check
from dualfocus_eval.recipe import recipe_names

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_and_recipes_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
    assert set(re.findall(r"recipe=([\w-][\w.-]*)", text)) <= {*recipe_names(), "NAME", "RECIPE", "mine.yaml"}


def test_the_modules_that_are_named_exist() -> None:
    package = ROOT / "dualfocus_eval"
    for page in PAGES:
        named = re.findall(r"`((?:[\w]+/)+(?:[\w]+\.py)?)`", page.read_text(encoding="utf-8"))
        missing = [name for name in named if not ((ROOT / name).exists() or (package / name).exists())]
        assert set(missing) <= {"data/", "runs/"}, page.name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_citation_file_is_read() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid(name: str) -> None:
    check({"recipe": name, "pretrained": "a-folder"})
