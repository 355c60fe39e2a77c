"""The layers of the package: what may import what, and no cycles."""

from __future__ import annotations

import subprocess
import sys

import pytest

from measurements.architecture import PACKAGE, Module, cycles, module_graph, package_graph, package_of, read_modules

LAYERS = (
    {"common"},
    {"families"},
    {"engines"},
    {"traces"},
    {"method"},
    {"recipe"},
    {"datasets", "curation", "convert"},
    {"harness"},
    {"training", "serving"},
    {"analysis"},
    {"report", "gate", "check"},
    {"paper", "viewing", "export"},
    {"tiny"},
    {"api", ""},
    {"cli", "plugin", "__main__"},
)
"""The lowest first; a package imports those below it, and those beside it as long as there is no cycle. The empty name
is the package itself, which offers the Python API."""
HEAVY = {"torch", "transformers", "lmms_eval", "pandas", "numpy", "PIL", "pydantic", "rich", "yaml", "platformdirs"}
"""Each takes a noticeable part of the second in which help and `import dualfocus_eval` answer."""


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read_modules()


def test_every_package_has_a_layer(modules: dict[str, Module]) -> None:
    known = set().union(*LAYERS)
    assert {package_of(name) for name in modules} <= known
    assert all(layer.isdisjoint(other) for layer in LAYERS for other in LAYERS if layer is not other)


def test_no_package_imports_one_above_it(modules: dict[str, Module]) -> None:
    height = {package: number for number, layer in enumerate(LAYERS) for package in layer}
    above = {
        (name, f"{PACKAGE}.{package_of(other)}")
        for name, imported in module_graph(modules).items()
        for other in imported
        if height[package_of(other)] > height[package_of(name)]
    }
    assert above == set()


def test_there_are_no_cycles(modules: dict[str, Module]) -> None:
    assert cycles(package_graph(modules)) == []
    assert cycles(module_graph(modules)) == []


def test_only_the_command_line_imports_the_embedded_world(modules: dict[str, Module]) -> None:
    importers = {package for package, imported in package_graph(modules).items() if "tiny" in imported}
    assert importers == {"cli"}


def test_the_plugin_imports_the_harness_alone(modules: dict[str, Module]) -> None:
    assert package_graph(modules)["plugin"] == {"harness"}


@pytest.mark.parametrize(
    ("imported", "heavy"),
    [
        (
            "dualfocus_eval",
            {"torch", "transformers", "lmms_eval", "pandas", "numpy", "PIL", "pydantic", "rich", "yaml"},
        ),
        ("dualfocus_eval.plugin", {"torch", "transformers", "lmms_eval", "pandas", "numpy", "PIL", "pydantic"}),
        ("dualfocus_eval.method.pipeline, dualfocus_eval.method.images", {"torch", "transformers", "lmms_eval"}),
    ],
)
def test_importing_is_light(imported: str, heavy: set[str]) -> None:
    code = f"import sys, {imported}\nprint(*sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_a_cycle_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [("a", "b", "c")]
    assert cycles({"a": {"b"}, "b": set()}) == []
