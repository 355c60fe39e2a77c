"""A region for questions whose grounding found none, so that the second pass can be looked at all the same."""

from __future__ import annotations

from dataclasses import replace

from dualfocus_eval.check.probes import Probe
from dualfocus_eval.common.geometry import Box
from dualfocus_eval.method.crops import crop_of, crop_picture
from dualfocus_eval.method.grounding import GROUNDING
from dualfocus_eval.method.grounding.base import Exchange
from dualfocus_eval.method.second_pass.base import Zoom
from dualfocus_eval.method.settings import Settings
from dualfocus_eval.method.states import Failed, Unzoomed, Zoomed

__all__ = ["with_region"]

_CENTRE = Box(0.25, 0.25, 0.75, 0.75)


def with_region(state: Failed | Unzoomed | Zoomed, probe: Probe, settings: Settings) -> Failed | Unzoomed | Zoomed:
    """``state``, with the known object as its region, or the image's centre, where the response has no usable box.

    The second pass then continues what the model wrote, as it would after a box.
    """
    responds = GROUNDING[settings.grounding].responds
    if not responds or not isinstance(state, Unzoomed) or not state.grounding or not state.grounding.response:
        return state
    (picture,), (request, *_) = state.question.images, GROUNDING[settings.grounding].requests(state.question, settings)
    box = probe.truth or _CENTRE
    crop = crop_of(box, picture.pixels.size, rule=settings.crop, margin=settings.margin)
    if crop is None:
        return state
    exchange = Exchange(request.conversation, state.grounding.response)
    zoom = Zoom(box, crop, crop_picture(picture, crop), exchange)
    return Zoomed(state.question, replace(state.grounding, box=box, crop=crop), zoom, state.macro)
