"""Named implementations of one seam: this package's own, and those that other packages register as entry points."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar

from dualfocus_eval.common.errors import UserError, first_line
from dualfocus_eval.common.naming import unknown_name

__all__ = ["Registry"]


class Named(Protocol):
    """What can be registered: its name is what a user writes."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """The implementations of one seam by name, built-in ones first.

    ``group`` is the entry-point group in which another package registers its own; an entry point has the name of the
    object that it refers to. One that cannot be used is skipped with a warning that names it, and asking for it by name
    says why it is missing. One that lacks what every one of ``built_in`` has cannot be used: it would end a run where
    that is first asked for.
    """

    def __init__(self, group: str, what: str, built_in: tuple[T, ...]) -> None:
        self.group, self.what = group, what
        self._built_in = built_in

    @cached_property
    def _loaded(self) -> tuple[dict[str, T], dict[str, str]]:
        """Implementations by name, and why each of the others is missing."""
        found = {item.name: item for item in self._built_in}
        missing: dict[str, str] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda entry: entry.name):
            try:
                found[entry.name] = self._checked(entry.load(), entry.name, found)
            except Exception as error:  # another package's code may raise anything
                missing[entry.name] = f"{entry.value}: {type(error).__name__}: {first_line(error)}"
                warnings.warn(
                    f"{self.what} {entry.name!r} is skipped: {missing[entry.name]}", RuntimeWarning, stacklevel=3
                )
        return found, missing

    def _checked(self, item: T, name: str, found: Mapping[str, T]) -> T:
        if isinstance(item, type):
            raise UserError(f"{item.__name__} is a class; register an object of it")
        if item.name != name:
            raise UserError(f"it is called {item.name!r}; give the entry point the same name")
        if name in found:
            raise UserError(f"the name {name!r} is taken")
        public = set.intersection(*(set(dir(one)) for one in self._built_in))
        if lacking := sorted(part for part in public if not part.startswith("_") and not hasattr(item, part)):
            raise UserError(f"it has no {', '.join(lacking)}")
        return item

    @property
    def missing(self) -> Mapping[str, str]:
        """Why each of the entry points that cannot be used is left out, by name."""
        return self._loaded[1]

    @property
    def items(self) -> Mapping[str, T]:
        """Every implementation by name, in order of registration."""
        return self._loaded[0]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items.values())

    def is_own(self, name: str) -> bool:
        """Whether the implementation of that name is this package's own: it changes with this package only."""
        return any(item.name == name for item in self._built_in)

    def __contains__(self, name: object) -> bool:
        return name in self.items

    def __getitem__(self, name: str) -> T:
        """The implementation of that name. Raises ``UserError`` with the known names and the nearest one."""
        found, missing = self._loaded
        if name in found:
            return found[name]
        if name in missing:
            raise UserError(f"{self.what} {name!r} cannot be used: {missing[name]}")
        raise UserError(unknown_name(name, found, self.what))
