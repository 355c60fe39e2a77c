"""Scenes, the embedded held-out sets, official releases for the df tasks, and training data out of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.cli import data_vg
from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.datasets import BENCHMARKS, benchmark_named
from dualfocus_eval.datasets.prepared import VARIABLE, data_root

__all__ = ["main"]

SHOWN = 20
"""Faults that are listed on the terminal; the manifest has all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one data command; 0 when everything was written. Raises ``UserError`` for a wrong argument."""
    parser = argparse.ArgumentParser(prog="dualfocus data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    scenes = commands.add_parser("scenes", help="scenes with questions in Visual Genome's annotation format")
    scenes.add_argument("--out", type=Path, required=True, help="folder to write to")
    scenes.add_argument("--count", type=int, default=1000, help="number of images (default: %(default)s)")
    scenes.add_argument("--seed", type=int, default=0, help="which endless series of scenes (default: %(default)s)")
    minis = commands.add_parser("minis", help="the embedded sets of the _mini tasks, bit for bit")
    minis.add_argument("--out", type=Path, help="tasks folder to write to (default: the package's own)")
    prepare = commands.add_parser("prepare", help="an official release, as the df tasks read it from $DUALFOCUS_DATA")
    prepare.add_argument("benchmark", help=f"one of: {', '.join(BENCHMARKS)}")
    prepare.add_argument("--source", type=Path, required=True, help="folder of the official files, images included")
    _add_root(prepare)
    verify = commands.add_parser("verify", help="check prepared benchmarks against manifest and published counts")
    verify.add_argument("benchmarks", nargs="*", help="which (default: all that are there)")
    _add_root(verify)
    gqa = commands.add_parser("gqa-mcq", help="a multiple-choice set out of GQA's own annotations")
    gqa.add_argument("--questions", type=Path, required=True, help="GQA's testdev_balanced_questions.json")
    gqa.add_argument("--out", type=Path, required=True, help="JSON lines file to write, as `prepare gqa-mcq` reads it")
    gqa.add_argument("--seed", type=int, default=0, help="of wrong answers and of places (default: %(default)s)")
    gqa.add_argument("--choices", type=int, default=4, help="options per question, at most (default: %(default)s)")
    gqa.add_argument("--model", help="ask this model of $OPENAI_BASE_URL for wrong answers (default: by rule)")
    data_vg.add_arguments(commands.add_parser("vg", help="training samples out of Visual Genome's own files"))
    options = parser.parse_args(argv)
    if options.command == "scenes":
        return _scenes(options.out, options.count, options.seed)
    if options.command == "minis":
        return _minis(options.out)
    if options.command == "gqa-mcq":
        from dualfocus_eval.datasets.gqa_choices import write_choices

        return write_choices(options.questions, options.out, options.seed, options.choices, options.model)
    if options.command == "vg":
        return data_vg.run(options)
    root = _root(options.out)
    if options.command == "prepare":
        return _prepare(options.benchmark, options.source, root)
    return _verify(options.benchmarks, root)


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help=f"folder of prepared benchmarks (default: ${VARIABLE})")


def _root(out: Path | None) -> Path:
    root = out or data_root()
    if root is None:
        raise UserError(f"where to? Set {VARIABLE} to the folder of prepared benchmarks, or give --out")
    return root


def _scenes(out: Path, count: int, seed: int) -> int:
    if count < 1:
        raise UserError(f"--count {count}: must be 1 or more")
    from rich.progress import Progress

    from dualfocus_eval.tiny.scenes.layout import compose
    from dualfocus_eval.tiny.scenes.visual_genome import write_visual_genome

    with Progress() as progress:
        bar = progress.add_task("scenes", total=count)
        questions = write_visual_genome(
            (compose(seed, index) for index in range(count)), out, lambda: progress.advance(bar)
        )
    print(one_line(f"{count} images with {questions} questions in {out}"))
    return 0


def _minis(out: Path | None) -> int:
    from dualfocus_eval.common.resources import resource_folder
    from dualfocus_eval.tiny.sets import write_minis

    folder = out or resource_folder("tasks")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror or error}") from error
    for path in write_minis(folder):
        print(one_line(f"{path} ({path.stat().st_size / 1e6:.1f} MB)"))
    return 0


def _prepare(name: str, source: Path, root: Path) -> int:
    """0 when everything was prepared, 1 when something was left out."""
    from rich.progress import Progress

    from dualfocus_eval.datasets.prepare import prepare

    benchmark = benchmark_named(name)
    with Progress() as progress:
        bar = progress.add_task(benchmark.title, total=sum(benchmark.counts.values()))
        manifest = prepare(benchmark, source, root, lambda: progress.advance(bar))
    rows = ", ".join(f"{split} {entry['rows']}" for split, entry in manifest["splits"].items())
    missing = [split for split in benchmark.counts if split not in manifest["splits"]]
    print(one_line(f"{root / name}: {rows} questions on {manifest['images']} images"))
    if missing:
        print(one_line(f"not in {source}: {', '.join(missing)}"))
    _list_left_out(manifest["left_out"])
    return 1 if manifest["left_out"] else 0


def _list_left_out(left_out: Sequence[dict[str, str]]) -> None:
    for entry in left_out[:SHOWN]:
        print(one_line(f"left out {entry['where']}: {entry['reason']}"), file=sys.stderr)
    if len(left_out) > SHOWN:
        print(f"... and {len(left_out) - SHOWN} more, all in the manifest", file=sys.stderr)


def _verify(names: Sequence[str], root: Path) -> int:
    """0 when every benchmark is whole, 1 otherwise."""
    from dualfocus_eval.datasets.prepared import prepared_table, verify

    chosen = [benchmark_named(name) for name in names] or [
        benchmark for name, benchmark in BENCHMARKS.items() if (root / name).is_dir()
    ]
    if not chosen:
        raise UserError(f"{root} holds no prepared benchmark: `dualfocus data prepare NAME --source DIR` makes one")
    faults = 0
    for benchmark in chosen:
        found = list(verify(benchmark, root))
        faults += len(found)
        for fault in found[:SHOWN]:
            print(one_line(fault), file=sys.stderr)
        if len(found) > SHOWN:
            print(one_line(f"{root / benchmark.name}: ... and {len(found) - SHOWN} more faults"), file=sys.stderr)
        if not found:
            missing = [split for split in benchmark.counts if not prepared_table(root, benchmark.name, split)]
            rest = f"; not prepared: {', '.join(missing)}" if missing else ""
            print(one_line(f"{root / benchmark.name}: whole, as published{rest}"))
    return 1 if faults else 0
