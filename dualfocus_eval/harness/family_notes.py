"""What a model's family cannot do with a run's settings: refused, or told to the user before the run begins."""

from __future__ import annotations

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.families import Family, box_conventions
from dualfocus_eval.families.generic import UNKNOWN
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.attention import ATTENTION
from dualfocus_eval.method.grounding.controls import TRUTH
from dualfocus_eval.method.settings import Settings

__all__ = ["family_warnings", "methods_without_boxes", "refuse_unknown_sizes"]

_UNNAMED = "the server's model, whose checkpoint pretrained= would name,"


def refuse_unknown_sizes(family: Family, settings: Settings) -> None:
    """Raise ``UserError`` for boxes in pixels of the resized image where the family does not know its size."""
    conventions = box_conventions()
    if family.engine == "generate" and _asks_for_boxes(settings) and conventions[settings.box_convention].scale is None:
        known = ", ".join(name for name, convention in conventions.items() if convention.scale is not None)
        raise UserError(
            f"box_convention={settings.box_convention} is in pixels of the resized image, whose size is not known for "
            f"model_type {family.model_type!r}; choose one of: {known}"
        )


def family_warnings(family: Family, settings: Settings, *, served: bool = False) -> tuple[str, ...]:
    """What the user is to be told of the family under ``settings``, on a server or in this process."""
    if family.trained_boxes is True or not _asks_for_boxes(settings):
        return ()
    model = _UNNAMED if family.model_type == UNKNOWN else family.model_type
    fault = "was not trained to write boxes" if family.trained_boxes is False else "may not be trained to write boxes"
    others = ", ".join(f"grounding={name}" for name in methods_without_boxes(family, served=served))
    return (
        f"{model} {fault}, and grounding={settings.grounding} asks for one (read as "
        f"box_convention={settings.box_convention}); methods that need none: {others}",
    )


def methods_without_boxes(family: Family, *, served: bool) -> list[str]:
    """Names of the methods that ``family`` can do, on a server or not, without writing boxes.

    To look at the data set's own boxes is no advice.
    """
    left_out = {TRUTH.name, ATTENTION.name} if served or family.grid is None else {TRUTH.name}
    return [method.name for method in GROUNDING if not method.responds and method.name not in left_out]


def _asks_for_boxes(settings: Settings) -> bool:
    """Whether the model is to name regions in words."""
    return settings.strategy != "macro" and GROUNDING[settings.grounding].responds
