"""A checked setup as tables."""

from __future__ import annotations

import math

from dualfocus_eval.check.boxes import MIN_RESPONSES, THINNEST, BoxCheck, Reading
from dualfocus_eval.check.checking import SetupCheck
from dualfocus_eval.check.prompts import PictureSizes, TokenCounts
from dualfocus_eval.common.escaping import clipped
from dualfocus_eval.common.tables import Cell, Number, Table
from dualfocus_eval.method.grounding import GROUNDING

__all__ = ["setup_tables"]

EXAMPLES = 3
"""Grounding responses that are shown."""

_UNKNOWN = "not known to this engine"
_IOU = "A response without a box counts as IoU 0. In brackets: 95% interval."
_NO_OBJECTS = "The objects in these images are not known: run it without --images to compare the boxes with objects."


def setup_tables(found: SetupCheck) -> list[Table]:
    """What runs the model, what it sees, its boxes, the agreement of its answers, and what they cost."""
    tables = [_engine(found), _pictures(found), _boxes(found.boxes) if found.boxes else None]
    return [table for table in (*tables, _agreement(found), _usage(found)) if table]


def _engine(found: SetupCheck) -> Table:
    info = found.engine
    rows: list[tuple[Cell, ...]] = [("questions", found.questions), ("family", info.family), ("engine", info.engine)]
    rows += info.served.items()
    if info.device is not None:
        limited = f"not by the second pass: {info.limited_reuse}" if info.limited_reuse else "yes"
        reuse = f"no: {info.no_reuse}" if info.no_reuse else limited
        rows += [("device", info.device), ("dtype", info.dtype), ("prefix reuse", reuse)]
    if found.batch_halvings:
        rows.append(("batches halved, out of memory", found.batch_halvings))
    if not GROUNDING[found.settings.grounding].responds:
        rows.append((f"grounding={found.settings.grounding}", "the model writes no box"))
    return Table("Setup", ("what", "value"), (tuple(rows),))


def _pictures(found: SetupCheck) -> Table:
    prompts = found.prompts

    def row(name: str, sizes: PictureSizes) -> tuple[Cell, ...]:
        encoded = ", ".join(f"{width} x {height}" for width, height in sizes.encoded[:3])
        more = f" and {len(sizes.encoded) - 3} others" if len(sizes.encoded) > 3 else ""
        unknown = _UNKNOWN if sizes.count else ""
        return (name, sizes.count, *_counted(sizes.tokens), encoded + more or unknown)

    both = ("both, second pass", prompts.crops.count, *_counted(prompts.both), "")
    rows = (row("image", prompts.images), row("crop", prompts.crops), both)
    notes = []
    if prompts.images.tokens.median is None:
        notes.append(f"Tokens are {_UNKNOWN}.")
    if found.regions_given:
        notes.append(f"{found.regions_given} crops show a known region: the responses had no usable box.")
    header = ("", "n", "min", "median", "max", "encoded pixels")
    return Table("Tokens per image and per crop", header, (rows,), tuple(notes))


def _counted(tokens: TokenCounts) -> tuple[Cell, ...]:
    middle = None if tokens.median is None else Number(tokens.median, decimals=0)
    return (tokens.fewest, middle, tokens.most)


def _boxes(boxes: BoxCheck) -> Table:
    def row(reading: Reading) -> tuple[Cell, ...]:
        marks = [
            mark
            for mark, shown in (("configured", reading == boxes.configured), ("best", reading == boxes.better))
            if shown
        ]
        found, usable = (Number(100 * share, unit="%") for share in (reading.parsed, reading.usable))
        return (reading.convention, reading.frame, found, usable, _iou(reading), ", ".join(marks))

    shown = [one for one in boxes.readings if one.parsed or one == boxes.configured]
    others = {one.convention for one in boxes.readings} - {one.convention for one in shown}
    thin = f"A usable box is at least {THINNEST:.0%} of the image wide and high."
    notes = [f"No box is found under {len(others)} other conventions."] if others else []
    notes += [thin, _NO_OBJECTS if boxes.configured.iou is None else _IOU]
    if len(boxes.responses) < MIN_RESPONSES:
        notes.append(f"With fewer than {MIN_RESPONSES} responses no reading is called better than the configured one.")
    notes += [f"{', '.join(boxes.unknown)}: needs the encoded size, which is {_UNKNOWN}."] if boxes.unknown else []
    notes += [f"Response: {clipped(response.text, 100)}" for response in boxes.responses[:EXAMPLES]]
    title = f"Boxes: {len(boxes.responses)} grounding responses under every convention and frame"
    header = ("box_convention", "box_frame", "parsed %", "usable %", "mean IoU", "")
    return Table(title, header, (tuple(map(row, shown)),), tuple(notes))


def _iou(reading: Reading) -> Number | None:
    if reading.iou is None:
        return None
    low, high = (math.nan if end is None else end for end in (reading.iou_low, reading.iou_high))
    return Number(reading.iou, low, high, decimals=2)


def _agreement(found: SetupCheck) -> Table | None:
    if not found.agreement:
        return None
    rows = tuple(
        (
            one.variant,
            one.answers,
            one.differing,
            Number(100 * one.differing / one.answers if one.answers else 0.0, unit="%"),
            one.close_calls,
            f"{one.largest:.1e}",
        )
        for one in found.agreement
    )
    header = ("the same requests", "answers", "differing", "%", "closest calls", "log-probability")
    note = "Log-probability: the largest difference for one token, in nats. Closest calls are among the differing."
    return Table("Agreement with the answers above", header, (rows,), (note,))


def _usage(found: SetupCheck) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, usage in found.usage.items():
        tokens = usage.tokens_prefilled + usage.tokens_reused
        rows.append(
            (
                name,
                Number(1000 * usage.seconds / max(found.questions, 1), unit="ms", decimals=0),
                None if usage.peak_bytes is None else Number(usage.peak_bytes / (1 << 20), decimals=0),
                Number(usage.tokens_prefilled / max(found.questions, 1), decimals=0),
                None
                if usage.tokens_untold
                else Number(100 * usage.tokens_reused / tokens if tokens else 0.0, unit="%"),
            )
        )
    header = ("per question", "ms", "peak MiB", "tokens computed", "tokens reused %")
    notes = ["Peak memory: of the GPUs; on a CPU of this process, the loaded model included."]
    if found.engine.device is None:
        notes = ["The memory of a server is not known here."]
    if any(usage.tokens_untold for usage in found.usage.values()):
        notes.append("The server does not say how many tokens it reuses (vLLM: --enable-prompt-tokens-details).")
    return Table("Time and memory", header, (tuple(rows),), tuple(notes))
