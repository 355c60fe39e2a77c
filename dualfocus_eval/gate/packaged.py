"""The baselines that come with the package."""

from __future__ import annotations

from pathlib import Path

from dualfocus_eval.common.resources import resource_folder

__all__ = ["is_packaged", "packaged_baseline", "packaged_names"]


def packaged_baseline(named: Path) -> Path | None:
    """The package's baseline of that name, e.g. ``df_pope_mini``; None without one, or where ``named`` is a file."""
    path = resource_folder("reports") / "baselines" / f"{named}.json"
    return path if path.is_file() and not named.is_file() else None


def packaged_names() -> list[str]:
    """The names of the package's baselines, sorted."""
    return sorted(path.stem for path in (resource_folder("reports") / "baselines").glob("*.json"))


def is_packaged(path: Path) -> bool:
    """Whether the file lies in the package."""
    return path.resolve().is_relative_to(resource_folder("reports").resolve())
