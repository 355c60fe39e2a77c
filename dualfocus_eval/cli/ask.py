"""``dualfocus ask``: one question about one image or several, answered as an evaluation answers it."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualfocus_eval.cli.model_args import parse_arguments
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.common.files import check_writable
from dualfocus_eval.common.resources import resource_folder
from dualfocus_eval.harness.arguments import check

if TYPE_CHECKING:
    from rich.console import Console

    from dualfocus_eval.api.answer import Answer
    from dualfocus_eval.api.asking import Asked
    from dualfocus_eval.api.model import Model
    from dualfocus_eval.common.tables import Table

__all__ = ["EXAMPLE", "main"]

DONE, INCOMPLETE = 0, 1

EXAMPLE = "scene-20240222-000000-detail-0"
"""The question of the embedded set ``df_scenes_mini`` that is asked where nothing else is: two passes help there."""

_EMBEDDED = "note: the embedded checkpoint knows drawn scenes only; for photos use --model_args pretrained=NAME"

_EPILOG = """Without IMAGE and --question one of the embedded scenes is asked about. The model is the embedded
checkpoint unless --model_args names another.

exit status: 0 every image was answered; 1 some were not, the last lines say which and why; 2 the command is wrong, or
no image can be opened; 3 an error in dualfocus-eval itself."""


def main(argv: Sequence[str]) -> int:
    """Ask, print the answers, write the pictures; the exit status is that of the help's epilog.

    Raises ``UserError`` for what is wrong with the command, and where no image can be opened.
    """
    chosen = _parser().parse_args(argv)
    with _warnings_on_one_line():
        arguments = parse_arguments("--model_args", chosen.model_args)
        check(arguments)
        if chosen.out:
            _check_out(chosen.out)
        asked = _asked(chosen)
        with _load(arguments) as model:
            answers = model.answer(asked)
    _show(answers, chosen.json)
    if chosen.images and not chosen.json and not {"pretrained", "recipe", "engine"} & arguments.keys():
        print(_EMBEDDED)
    if chosen.out:
        _draw(answers, chosen.out, say=not chosen.json)
    sys.stdout.flush()  # what is wrong comes last where both go into one file
    failures = [answer.failure.message for answer in answers if answer.failure]
    for message in failures:
        _complain(message)
    return INCOMPLETE if failures else DONE


@contextmanager
def _warnings_on_one_line() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _complain(str(message))
        yield


def _complain(message: str) -> None:
    print(one_line(f"dualfocus ask: {message}"), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus ask",
        description="Ask a question about an image in two passes: print the box, both answers with their perplexity, "
        "which one was selected and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files; the question is asked of each")
    parser.add_argument("--question", metavar="TEXT", help="the bare question; a format hint is added")
    parser.add_argument(
        "--doc", metavar="TASK/NUMBER", help="ask a question of a task again, with its own image and prompt, instead"
    )
    parser.add_argument("--options", metavar="A,B,...", help="make it multiple choice; texts separated by commas")
    parser.add_argument(
        "--model_args", default="", metavar="NAME=VALUE,...", help="as for dualfocus eval, e.g. pretrained=FOLDER"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="draw the image with box, sub-region and both answers; of several images FILE-1.png, FILE-2.png, ... in "
        "their order",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image instead, a line each")
    return parser


def _check_out(out: Path) -> None:
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the picture is a PNG; name a file that ends in .png")
    try:
        if out.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        check_writable(out.parent)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}; name another file") from error


def _asked(chosen: argparse.Namespace) -> list[Asked]:
    """The questions with their images. Raises ``UserError`` where none of the images can be opened."""
    from dualfocus_eval.api.asking import QuestionText, ask_about

    if chosen.doc is not None:
        return [_document(chosen)]
    if not chosen.images and chosen.question is None and chosen.options is None:
        return [_example()]
    if not chosen.images:
        raise UserError("there is no image: name an image file, or leave --question and --options out")
    if chosen.question is None:
        raise UserError('--question is missing: e.g. --question "What does the sign say?"')
    text = QuestionText.of(chosen.question, None if chosen.options is None else chosen.options.split(","))
    asked = [ask_about(image, text) for image in chosen.images]
    failures = [one.question.failure.message for one in asked if one.question.failure]
    if len(failures) == len(asked):
        raise UserError("; ".join(failures))
    return asked


def _document(chosen: argparse.Namespace) -> Asked:
    if chosen.images or chosen.question is not None or chosen.options is not None:
        raise UserError("--doc names image, question and options: leave IMAGE, --question and --options out")
    from dualfocus_eval.api.asking import Asked
    from dualfocus_eval.harness.documents import question_named

    question = question_named(chosen.doc)
    if question.failure:
        raise UserError(question.failure.message)
    return Asked(question, chosen.doc)


def _example() -> Asked:
    from pyarrow import parquet

    from dualfocus_eval.api.asking import QuestionText, ask_about

    table = resource_folder("tasks") / "scenes" / "data" / "mini.parquet"
    (row,) = parquet.read_table(table, filters=[("question_id", "=", EXAMPLE)]).to_pylist()
    return ask_about(row["image"]["bytes"], QuestionText.of(row["question"]), name=f"embedded scene {row['image_id']}")


def _load(arguments: dict[str, Any]) -> Model:
    """Load the model while a terminal shows that; what transformers would say of it stays unsaid."""
    from rich.console import Console

    with Console(stderr=True).status("loading the model"):
        from transformers.utils import logging

        from dualfocus_eval.api.model import load

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        return load(**arguments)


def _show(answers: Sequence[Answer], as_json: bool) -> None:
    if as_json:
        for answer in answers:
            print(json.dumps(answer.to_dict(), allow_nan=False))
        return
    from rich.console import Console

    console = Console()
    for number, answer in enumerate(answer for answer in answers if not answer.failure):
        if number:
            console.print()
        _print(answer, console)


def _print(answer: Answer, console: Console) -> None:
    from dualfocus_eval.common.tables import print_line, print_table

    print_line(f"{answer.source}: {answer.question.stem}", console, "bold")
    if answer.box and answer.box_pixels:
        corners = ", ".join(f"{corner:.2f}" for corner in answer.box.corners)
        left, top, right, bottom = answer.box_pixels
        print_line(f"box: [{corners}], pixels {left}, {top} to {right}, {bottom}", console)
    if region := answer.region:
        width, height = region.size
        place = f"pixels {region.left}, {region.top} to {region.right}, {region.bottom}"
        print_line(f"sub-region: {place} ({width} x {height})", console)
    print_table(_table(answer), console)
    named = f" ({answer.option})" if answer.option else ""
    print_line(f"selected: {answer.text}{named}, the {answer.selected} answer", console, "bold green")
    print_line(f"why: {answer.why}", console)


def _table(answer: Answer) -> Table:
    """Both answers with their perplexities; those that the rule compared have a column where they are others."""
    from dualfocus_eval.common.tables import Cell, Number, Table

    candidates = {name: found for name, found in (("macro", answer.macro), ("micro", answer.micro)) if found}
    own = tuple(found.perplexity for found in candidates.values())
    compared = answer.compared if answer.compared != own else None
    rows: list[tuple[Cell, ...]] = []
    for place, (name, found) in enumerate(candidates.items()):
        costs = [own[place], *([compared[place]] if compared else [])]
        mark = " *" if answer.selected == name else ""
        rows.append((f"{name}{mark}", found.text, *(Number(cost, decimals=3) for cost in costs)))
    header = ("", "answer", "perplexity", *(["compared"] if compared else []))
    notes = ("perplexity: in the answer's own pathway; compared: as the rule computes it",) if compared else ()
    return Table("", header, (tuple(rows),), notes)


def _draw(answers: Sequence[Answer], out: Path, *, say: bool) -> None:
    """Write a picture of each answered question. Raises ``UserError`` where that is not possible."""
    from dualfocus_eval.report.answer_figure import png_bytes

    for number, answer in enumerate(answers, 1):
        if answer.failure:
            continue
        path = out if len(answers) == 1 else out.with_stem(f"{out.stem}-{number}")
        try:
            path.write_bytes(png_bytes(answer.figure()))
        except OSError as error:
            raise UserError(f"--out {path} cannot be written: {error.strerror}") from error
        if say:
            print(one_line(f"picture: {path}"))
