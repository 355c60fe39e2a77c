"""What a registry makes of the entry points of other packages."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.registry import Registry

GROUP = "dualfocus_eval.tests"


@dataclass(frozen=True)
class Colour:
    name: str = "red"
    shade: int = 1


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Colour]:
    """One that knows ``red``, where a package registers whatever is in the module ``colours``."""
    module = ModuleType("colours")
    vars(module).update(BLUE=Colour("blue"), RED=Colour("red"), GREEN=Colour("green"), Kind=Colour, NUMBER=3)
    module.BARE = SimpleNamespace(name="bare")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "colours", module)
    info = tmp_path / "colours-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
    entries = ("blue:BLUE", "red:RED", "lime:GREEN", "kind:Kind", "number:NUMBER", "bare:BARE", "absent:ABSENT")
    lines = [f"{name} = colours:{value}" for name, value in (entry.split(":") for entry in entries)]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, "lost = no_such_module:LOST"]))
    monkeypatch.syspath_prepend(tmp_path)
    return Registry(GROUP, "colour", (Colour("red"),))


@pytest.mark.filterwarnings("ignore:colour .* is skipped")
def test_what_a_package_registers_comes_after_the_built_in(registry: Registry[Colour]) -> None:
    assert list(registry.items) == ["red", "blue"]
    assert registry["blue"] == Colour("blue")
    assert "lost" not in registry


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("red", "colours:RED: UserError: the name 'red' is taken"),
        ("lime", "colours:GREEN: UserError: it is called 'green'; give the entry point the same name"),
        ("kind", "colours:Kind: UserError: Colour is a class; register an object of it"),
        ("number", "colours:NUMBER: AttributeError: 'int' object has no attribute 'name'"),
        ("bare", "colours:BARE: UserError: it has no shade"),
        ("absent", "colours:ABSENT: AttributeError: module 'colours' has no attribute 'ABSENT'"),
        ("lost", "no_such_module:LOST: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_what_cannot_be_used_is_skipped_with_a_warning_and_says_why(
    registry: Registry[Colour], name: str, reason: str
) -> None:
    with pytest.warns(RuntimeWarning) as warned:
        assert registry.missing[name] == reason
    assert f"colour '{name}' is skipped: {reason}" in [str(warning.message) for warning in warned]
    if name != "red":
        with pytest.raises(UserError, match="cannot be used") as refused:
            registry[name]
        assert str(refused.value) == f"colour '{name}' cannot be used: {reason}"


@pytest.mark.filterwarnings("ignore:colour .* is skipped")
def test_an_unknown_name_is_told_the_known_ones(registry: Registry[Colour]) -> None:
    with pytest.raises(UserError, match=r"unknown colour 'blu'\. Did you mean blue\? Known: blue, red\."):
        registry["blu"]
