"""What is off in a checked setup: a line each, with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dualfocus_eval.check.agreement import EXACT_DTYPES, HALF_TOLERANCE, MOST_DIFFERING, TOLERANCE, Agreement
from dualfocus_eval.check.boxes import MIN_RESPONSES, BoxCheck, Reading
from dualfocus_eval.check.checking import SetupCheck
from dualfocus_eval.check.prompts import OtherTokens
from dualfocus_eval.common.escaping import clipped
from dualfocus_eval.families import family_of
from dualfocus_eval.harness.family_notes import methods_without_boxes

__all__ = ["what_is_off", "what_is_unsure"]

FEWEST_USABLE = 0.5
"""Share of grounding responses that must have a usable box."""
FAILURES = 5
"""Different reasons of failed questions that are named."""
LOWEST_IOU = 0.1
"""Mean IoU with the known objects that boxes must be able to reach: the upper end of its interval."""


def what_is_off(found: SetupCheck) -> tuple[str, ...]:
    """A line for each thing that is not as it should be; none where the model may be evaluated."""
    return tuple(_lines(found))


def what_is_unsure(found: SetupCheck) -> tuple[str, ...]:
    """A line for what may be off although the questions were too few to be sure."""
    boxes = found.boxes
    if boxes is None or boxes.perhaps_better is None or tuple(_box_lines(boxes, found)):
        return ()
    return (_perhaps_line(boxes, boxes.perhaps_better),)


def _lines(found: SetupCheck) -> Iterator[str]:
    if found.refused:
        yield f"a run with these arguments is refused: {found.refused}"
    if found.failures:
        shown = "; ".join(found.failures[:FAILURES])
        more = f"; and {len(found.failures) - FAILURES} more" if len(found.failures) > FAILURES else ""
        yield f"{found.failed} of {found.questions} questions failed: {shown}{more}"
    if found.boxes:
        yield from _box_lines(found.boxes, found)
    yield from _other_tokens([*found.prompts.images.others, *found.prompts.crops.others])
    yield from _disagreement(found.agreement, found.engine.dtype)


def _box_lines(boxes: BoxCheck, found: SetupCheck) -> Iterator[str]:
    configured, better, perhaps = boxes.configured, boxes.better, boxes.perhaps_better
    if better:
        yield _better_line(boxes, better)
    elif configured.usable < FEWEST_USABLE and perhaps:
        yield _perhaps_line(boxes, perhaps)
    elif configured.usable < FEWEST_USABLE:
        yield (
            f"{configured.usable:.0%} of the grounding responses have a usable box under "
            f"{_named(configured.settings)}, and clearly more under no other: {_without_boxes(boxes, found)}"
        )
    elif len(boxes.responses) >= MIN_RESPONSES and _reachable(configured) < LOWEST_IOU:
        yield (
            f"the boxes hardly overlap the objects asked for ({_fit(configured)}), and under no other convention "
            f"clearly more: {_other_grounding(found)}"
        )


def _better_line(boxes: BoxCheck, better: Reading) -> str:
    wanted, fit = _compared(boxes.configured, better)
    same_boxes = [one.convention for one in boxes.alike if one.frame == better.frame]
    also = f"; {', '.join(same_boxes)} read the same" if same_boxes else ""
    frames = sorted({one.frame for one in boxes.alike} - {better.frame})
    unsure = f"; box_frame={' or '.join(frames)} is not told apart from {better.frame}" if frames else ""
    return f"the boxes fit {fit}: pass --model_args {wanted}{also}{unsure}"


def _perhaps_line(boxes: BoxCheck, perhaps: Reading) -> str:
    _, fit = _compared(boxes.configured, perhaps)
    few = f"{len(boxes.responses)} responses are too few to be sure"
    return f"the boxes may fit {fit}, but {few}: give a larger --limit or more --images"


def _compared(configured: Reading, better: Reading) -> tuple[str, str]:
    """The arguments that make ``better`` of the configured reading, and how well both fit."""
    changes = dict(better.settings.items() - configured.settings.items())
    wanted, now = _named(changes), _named({name: configured.settings[name] for name in changes})
    return wanted, f"{wanted} ({_fit(better)}), not {now} ({_fit(configured)})"


def _named(settings: Mapping[str, str]) -> str:
    return ",".join(f"{name}={settings[name]}" for name in sorted(settings))


def _reachable(reading: Reading) -> float:
    """The highest mean IoU that a reading's responses leave possible; 1 where no object is known."""
    if reading.iou is None:
        return 1.0
    return reading.iou if reading.iou_high is None else reading.iou_high


def _fit(reading: Reading) -> str:
    return f"{reading.usable:.0%} usable" if reading.iou is None else f"IoU {reading.iou:.2f}"


def _without_boxes(boxes: BoxCheck, found: SetupCheck) -> str:
    example = f'the model wrote "{clipped(boxes.responses[0].text)}"'
    if 2 * boxes.cut > len(boxes.responses):
        return (
            f"{example}; {boxes.cut} responses were cut at max_box_tokens={found.settings.max_box_tokens}: raise it if "
            f"the box comes later, or {_other_grounding(found)}"
        )
    return f"{example}: {_other_grounding(found)}"


def _other_grounding(found: SetupCheck) -> str:
    """What to do with a model that writes no useful boxes."""
    without = methods_without_boxes(family_of(found.engine.family), served=found.engine.device is None)
    return f"choose a grounding method that needs none (grounding={' or grounding='.join(without)})"


def _other_tokens(others: Sequence[OtherTokens]) -> Iterator[str]:
    if not others:
        return
    (width, height), found, expected = others[0].size, others[0].tokens, others[0].expected
    yield (
        f"the server shows {len(others)} images and crops in another number of tokens than the checkpoint's processor: "
        f"one of {width} x {height} pixels in {found}, not {expected}. It resizes them otherwise, and boxes in pixels "
        "are read wrongly: serve the model with the checkpoint's own processor and pixel limits "
        "(`dualfocus serve-command` prints how)"
    )


def _disagreement(agreement: Sequence[Agreement], dtype: str | None) -> Iterator[str]:
    broken = [one for one in agreement if not one.holds(dtype)]
    if not broken:
        return
    found = "; ".join(
        f"{one.variant}: {one.differing} of {one.answers} differ, log-probabilities by up to {one.largest:.1e}"
        + (f", {one.failed} fail one way only" if one.failed else "")
        for one in broken
    )
    if dtype is None:
        expected = (
            f"even in half precision log-probabilities may differ by {HALF_TOLERANCE}, and beside closest calls at "
            f"most {MOST_DIFFERING:.0%} of the answers"
        )
        advice = "serve the model in float32, and report it with this output if that does not help"
    elif dtype in EXACT_DTYPES:
        expected = f"in {dtype} log-probabilities may differ by {TOLERANCE}, and answers only at closest calls"
        advice = "pass --model_args prefix_cache_gib=0,batch_size=1, and report it with this output"
    else:
        expected = (
            f"in {dtype} log-probabilities may differ by {HALF_TOLERANCE}, and beside closest calls at most "
            f"{MOST_DIFFERING:.0%} of the answers"
        )
        advice = "pass --model_args dtype=float32"
    yield f"answers depend on how they are computed ({found}), but {expected}: {advice}"
