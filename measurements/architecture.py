"""The shape of the source: lines per package, long files, cycles, names that are exported and imported by nobody.

    python -m measurements.architecture [ROOT]

``ROOT`` is a checkout (default: this one), so that two commits can be compared. ``tests/test_layers.py`` holds what
must not change.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Import", "Module", "cycles", "module_graph", "package_graph", "package_of", "read_modules"]

PACKAGE = "dualfocus_eval"
ROOT = Path(__file__).resolve().parents[1]
LONG = 250
"""Lines above which a file is listed."""
_DOTTED = re.compile(rf"{PACKAGE}(?:\.\w+)+(?::\w+)?")


@dataclass(frozen=True)
class Import:
    """One import statement's name, wherever it stands: at the top, in a function, under ``TYPE_CHECKING``."""

    module: str
    """The imported module, e.g. ``dualfocus_eval.common.files``."""
    name: str
    """What is taken from it; empty where the module itself is imported."""
    line: int


@dataclass(frozen=True)
class Module:
    """A file of Python."""

    name: str
    path: Path
    lines: int
    exports: tuple[str, ...]
    """Its ``__all__``."""
    imports: tuple[Import, ...]
    """Of modules of the package."""
    uses: frozenset[tuple[str, str]]
    """Names of other modules that it imports, reaches through an imported module, or gives as a dotted text."""


def read_modules(root: Path = ROOT) -> dict[str, Module]:
    """The modules of the package in a checkout, by name."""
    paths = {_module_name(path, root): path for path in sorted((root / PACKAGE).rglob("*.py"))}
    return {name: _read(name, path, paths) for name, path in paths.items()}


def package_of(module: str) -> str:
    """The first part below the package: ``method`` of ``dualfocus_eval.method.boxes``; empty for the package itself."""
    return [*module.split("."), ""][1]


def module_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """By module, the modules that it imports. The version, which the package itself defines, is no import."""
    return {
        name: {found.module for found in module.imports if (found.module, found.name) != (PACKAGE, "__version__")}
        for name, module in modules.items()
    }


def package_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """By package, the other packages that it imports."""
    graph: dict[str, set[str]] = {package_of(name): set() for name in modules}
    for name, imported in module_graph(modules).items():
        graph[package_of(name)] |= {package_of(other) for other in imported} - {package_of(name)}
    return graph


def cycles(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of nodes that reach each other, each sorted."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = (tuple(sorted(other for other in reached[node] if node in reached[other])) for node in graph)
    return sorted({group for group in groups if len(group) > 1})


def long_files(modules: Mapping[str, Module]) -> dict[str, int]:
    """Files of more than `LONG` lines, the longest first."""
    found = {name: module.lines for name, module in modules.items() if module.lines > LONG}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def unused_exports(
    modules: Mapping[str, Module], users: Mapping[str, Module], public: frozenset[tuple[str, str]]
) -> list[str]:
    """Names in ``__all__`` that neither another module of the package nor one of ``users`` uses.

    ``public`` are (module, name) of entry points. What the package itself exports is public, too, and a command's
    ``main`` is found by its name.
    """
    used = public.union(*(module.uses for module in (*modules.values(), *users.values())))
    return [
        f"{name}.{export}"
        for name, module in modules.items()
        for export in module.exports
        if name != PACKAGE and not (package_of(name) == "cli" and export == "main") and (name, export) not in used
    ]


def _module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _read(name: str, path: Path, known: Mapping[str, Path]) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imports = tuple(_imports(tree, known))
    return Module(name, path, text.count("\n"), _exports(tree), imports, frozenset(_uses(tree, imports, known)))


def _exports(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()


def _imports(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[Import]:
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "relative imports are not used here"
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, "", node.lineno) for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found = (below, "") if below in known else (node.module, alias.name)
                yield Import(*found, node.lineno)


def _uses(tree: ast.AST, imports: tuple[Import, ...], known: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    yield from ((found.module, found.name) for found in imports if found.name)
    short = {found.module.rpartition(".")[2]: found.module for found in imports if not found.name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            written = ast.unparse(node.value)
            yield short.get(written, written), node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
            for dotted in _DOTTED.findall(node.value):
                module, _, name = dotted.replace(":", ".").rpartition(".")
                if module in known:
                    yield module, name


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for other in graph.get(waiting.pop(), ()):
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached


def _entry_points(root: Path) -> frozenset[tuple[str, str]]:
    found = _DOTTED.findall((root / "pyproject.toml").read_text(encoding="utf-8"))
    return frozenset((module, name) for module, _, name in (text.partition(":") for text in found))


def _beside(root: Path, *folders: str) -> dict[str, Module]:
    """The modules of other folders, which use the package."""
    known = {_module_name(path, root): path for path in (root / PACKAGE).rglob("*.py")}
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    return {str(path): _read(_module_name(path, root), path, known) for path in paths}


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="a checkout (default: this one)")
    root: Path = parser.parse_args().root
    modules = read_modules(root)
    lines: dict[str, int] = {}
    for name, module in modules.items():
        lines[package_of(name)] = lines.get(package_of(name), 0) + module.lines
    print(f"lines: {sum(lines.values()):,} in {len(modules)} files")
    for name, count in sorted(lines.items(), key=lambda item: -item[1]):
        print(f"  {name or PACKAGE:<12} {count:>6,}")
    _list(f"files over {LONG} lines", [f"{name} ({count})" for name, count in long_files(modules).items()])
    _list("package cycles", [", ".join(found) for found in cycles(package_graph(modules))])
    _list("module cycles", [", ".join(found) for found in cycles(module_graph(modules))])
    users = _beside(root, "tasks", "measurements", "benchmarks", "tests")
    _list("names in __all__ that nobody imports", unused_exports(modules, users, _entry_points(root)))


def _list(title: str, found: list[str]) -> None:
    print(f"{title}: {len(found)}")
    for line in found:
        print(f"  {line}")


if __name__ == "__main__":
    main()
