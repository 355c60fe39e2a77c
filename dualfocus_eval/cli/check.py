"""``dualfocus check``: whether a model is set up right, before hours are spent on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dualfocus_eval.cli.model_args import parse_arguments
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import json_text, one_line
from dualfocus_eval.common.files import check_writable, replacing
from dualfocus_eval.harness.arguments import check, resolve
from dualfocus_eval.harness.calibrated import fitting_calibration

if TYPE_CHECKING:
    from rich.console import Console

    from dualfocus_eval.check.checking import SetupCheck
    from dualfocus_eval.check.probes import Probe
    from dualfocus_eval.engines.running import RunEngine
    from dualfocus_eval.harness.arguments import RunConfig

__all__ = ["main"]

SOUND, OFF = 0, 1
QUESTIONS, BATCH_SIZE = 24, 8

_EPILOG = """The check asks its questions in two passes and prints the family, the tokens per image, the rendered chat
template, what every box convention and frame makes of the boxes, whether batching and prefix reuse change answers, and
time and memory of both passes. Without --images the questions are about embedded scenes, whose objects are known, so
that boxes can be compared with them.

exit status: 0 nothing is off; 1 something is, each in a line that says what to do; 2 the command is wrong, or the model
cannot be loaded; 3 an error in dualfocus-eval itself."""


def main(argv: Sequence[str]) -> int:
    """Check a setup and print what was found; the exit status is that of the help's epilog.

    Raises ``UserError`` for what is wrong with the command, its images or the checkpoint.
    """
    chosen = _parser().parse_args(argv)
    arguments = {"batch_size": BATCH_SIZE} | parse_arguments("--model_args", chosen.model_args)
    if chosen.limit < 1:
        raise UserError(f"--limit {chosen.limit}: give the number of questions, 1 or more")
    check(arguments)
    if chosen.json:
        _check_json(chosen.json)
    config = resolve(arguments)
    probes = _probes(chosen.images, chosen.limit, config.system_prompt)
    if len(probes) < chosen.limit and not chosen.images:
        _complain(f"--limit {chosen.limit}: there are {len(probes)} embedded scenes, and all are asked about")
    for warning in config.warnings:
        _complain(warning)
    found = _check(probes, config)
    return _report(found, config.engine.described, chosen.json)


def _complain(message: str) -> None:
    print(one_line(f"dualfocus check: {message}"), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus check",
        description="Check that a model is set up right before you spend hours on it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model_args",
        default="",
        metavar="NAME=VALUE,...",
        help=f"as for dualfocus eval, e.g. pretrained=FOLDER (default: the embedded checkpoint); batch_size is "
        f"{BATCH_SIZE} if you give none",
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="ask about these images instead; their objects are not known"
    )
    parser.add_argument(
        "--limit", type=int, default=QUESTIONS, metavar="N", help=f"questions, one per image (default: {QUESTIONS})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all that was found to this file")
    return parser


def _check_json(path: Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        check_writable(path.parent)
    except OSError as error:
        raise UserError(f"--json {path} cannot be written: {error.strerror}; name another file") from error


def _probes(images: Path | None, limit: int, system_prompt: str | None) -> list[Probe]:
    from dualfocus_eval.check.probes import embedded_probes, folder_probes

    probes = folder_probes(images, limit) if images else embedded_probes(limit)
    return [replace(probe, question=replace(probe.question, system=system_prompt)) for probe in probes]


def _check(probes: Sequence[Probe], config: RunConfig) -> SetupCheck:
    """Load the model and check it while a terminal shows that."""
    from rich.console import Console

    from dualfocus_eval.check.checking import check_setup

    with Console(stderr=True).status("loading the model") as status:
        engine = _load(config)
        source = config.sources.get("selection", "default")
        _, settings, told = fitting_calibration(config.calibration, config.settings, engine, source)
        for line in told:
            print(one_line(line))
        status.update(f"asking {len(probes)} questions in two passes")
        return check_setup(
            probes,
            engine,
            settings,
            batch_size=config.batch_size,
        )


def _load(config: RunConfig) -> RunEngine:
    from transformers.utils import logging as transformers_logging

    from dualfocus_eval.engines.starting import start_engine

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return start_engine(config.engine)


def _report(found: SetupCheck, pretrained: str, json: Path | None) -> int:
    from rich.console import Console

    from dualfocus_eval.check.findings import what_is_off, what_is_unsure

    _print(found, pretrained, Console())
    off, unsure = what_is_off(found), what_is_unsure(found)
    if json:
        content = {"pretrained": pretrained, "off": off, "unsure": unsure, **found.as_dict()}
        with replacing(json) as partial:
            partial.write_text(json_text(content, indent=1) + "\n", encoding="utf-8")
    sys.stdout.flush()  # what is off comes last where both go into one file
    for line in off:
        _complain(f"off: {line}")
    for line in unsure:
        _complain(f"unsure: {line}")
    for line in found.warnings:
        _complain(f"warning: {line}")
    if not off and not unsure:
        print("Nothing is off.")
    return OFF if off else SOUND


def _print(found: SetupCheck, pretrained: str, console: Console) -> None:
    from dualfocus_eval.check.tables import setup_tables
    from dualfocus_eval.common.tables import print_line, print_table

    print_line(pretrained, console, "bold")
    for table in setup_tables(found):
        print_table(table, console)
    for prompt in found.prompts.rendered:
        print_line(f"{prompt.name}:", console, "bold")
        for line in prompt.text.split("\n"):
            print_line(f"  | {line}", console)
        console.print()
