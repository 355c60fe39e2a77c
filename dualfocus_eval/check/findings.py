"""What is off in a checked setup: a line each, with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dualfocus_eval.check.agreement import EXACT_DTYPES, MOST_DIFFERING, TOLERANCE, Agreement
from dualfocus_eval.check.boxes import MIN_RESPONSES, BoxCheck, Reading
from dualfocus_eval.check.checking import SetupCheck
from dualfocus_eval.common.escaping import clipped
from dualfocus_eval.method.grounding import GROUNDING

__all__ = ["FEWEST_USABLE", "LOWEST_IOU", "what_is_off"]

FEWEST_USABLE = 0.5
"""Share of grounding responses that must have a usable box."""
LOWEST_IOU = 0.1
"""Mean IoU with the known objects that boxes must be able to reach: the upper end of its interval."""


def what_is_off(found: SetupCheck) -> tuple[str, ...]:
    """A line for each thing that is not as it should be; none where the model may be evaluated."""
    return tuple(_lines(found))


def _lines(found: SetupCheck) -> Iterator[str]:
    if found.failures:
        more = f" (and {len(found.failures) - 1} other reasons)" if len(found.failures) > 1 else ""
        yield f"{found.failed} of {found.questions} questions failed: {found.failures[0]}{more}"
    if found.boxes:
        yield from _box_lines(found.boxes, found.settings.max_box_tokens)
    dtype = found.engine.dtype if found.engine else ""
    for agreement in found.agreement or ():
        if not agreement.holds(dtype):
            yield _disagreement(agreement, dtype)


def _box_lines(boxes: BoxCheck, max_box_tokens: int) -> Iterator[str]:
    configured, better = boxes.configured, boxes.better
    if better:
        yield _better_line(boxes, better)
    elif configured.usable < FEWEST_USABLE:
        yield (
            f"{configured.usable:.0%} of the grounding responses have a usable box under "
            f"{_named(configured.settings)}, and clearly more under no other: {_without_boxes(boxes, max_box_tokens)}"
        )
    elif len(boxes.responses) >= MIN_RESPONSES and _reachable(configured) < LOWEST_IOU:
        yield (
            f"the boxes hardly overlap the objects asked for ({_fit(configured)}), and under no other convention "
            f"clearly more: {_other_grounding()}"
        )


def _better_line(boxes: BoxCheck, better: Reading) -> str:
    configured = boxes.configured
    changes = dict(better.settings.items() - configured.settings.items())
    wanted, now = _named(changes), _named({name: configured.settings[name] for name in changes})
    same_boxes = [one.convention for one in boxes.alike if one.frame == better.frame]
    also = f"; {', '.join(same_boxes)} read the same" if same_boxes else ""
    frames = sorted({one.frame for one in boxes.alike} - {better.frame})
    unsure = f"; box_frame={' or '.join(frames)} is not told apart from {better.frame}" if frames else ""
    fit = f"the boxes fit {wanted} ({_fit(better)}), not {now} ({_fit(configured)})"
    return f"{fit}: pass --model_args {wanted}{also}{unsure}"


def _named(settings: Mapping[str, str]) -> str:
    return ",".join(f"{name}={settings[name]}" for name in sorted(settings))


def _reachable(reading: Reading) -> float:
    """The highest mean IoU that a reading's responses leave possible; 1 where no object is known."""
    if reading.iou is None:
        return 1.0
    return reading.iou if reading.iou_high is None else reading.iou_high


def _fit(reading: Reading) -> str:
    return f"{reading.usable:.0%} usable" if reading.iou is None else f"IoU {reading.iou:.2f}"


def _without_boxes(boxes: BoxCheck, max_box_tokens: int) -> str:
    if boxes.cut:
        return f"{boxes.cut} of them were cut at max_box_tokens={max_box_tokens}; raise it"
    return f"the model wrote {clipped(boxes.responses[0].text)!r}; {_other_grounding()}"


def _other_grounding() -> str:
    """What to do with a model that writes no useful boxes."""
    without = [name for name, method in GROUNDING.items.items() if not method.responds]
    if without:
        return f"choose a grounding method that needs none (grounding={' or grounding='.join(without)})"
    return "evaluate it with strategy=macro, or choose a model that was trained to write boxes"


def _disagreement(agreement: Agreement, dtype: str) -> str:
    differ = f"{agreement.differing} of {agreement.answers} answers differ, log-probabilities by up to "
    what = f"{agreement.variant}: {differ}{agreement.largest:.1e}"
    if agreement.failed:
        return f"{agreement.variant}: {agreement.failed} requests fail one way only: report it with this output"
    if dtype in EXACT_DTYPES:
        return (
            f"{what}; in {dtype} at most {TOLERANCE} and only closest calls are expected: pass prefix_cache_gib=0 and "
            "batch_size=1, and report it with this output"
        )
    return f"{what}; more than {MOST_DIFFERING:.0%} of the answers in {dtype}: pass dtype=float32, or batch_size=1"
