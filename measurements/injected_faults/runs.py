"""Faults of runs: arguments, questions, disks and output of ``eval``; and files that report, compare, regress read."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from measurements.injected_faults.cases import (
    TASK_NAME,
    Broken,
    Case,
    Command,
    Sound,
    changed_json,
    copied,
    cut,
    disk_of,
)
from measurements.injected_faults.checkpoints import asking

POPE = ("--tasks", "df_pope_mini_random", "--limit", "2")
TASK = """
task: mine
dataset_path: parquet
dataset_kwargs: {data_files: {test: data.parquet}}
test_split: test
output_type: generate_until
doc_to_visual: image
doc_to_text: question
doc_to_target: answer
generation_kwargs: {max_new_tokens: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def cases() -> Iterator[Case]:
    """First what the user asks wrongly, then what breaks on the way, then what is found broken afterwards."""
    for fault, said, more in _MISTAKES:
        yield Case("eval", fault, 2, said, _asked(*more))
    yield from _on_the_way()
    yield from _afterwards()


_MISTAKES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("no task", "--tasks is missing", ()),
    ("unknown task", "Tasks not found", ("--tasks", "no_such_task")),
    ("unknown model argument", "Did you mean selection?", (*POPE, "--model_args", "selektion=own")),
    ("model argument of the wrong type", "batch_size", (*POPE, "--model_args", "batch_size=many")),
    ("unknown dtype", "dtype", (*POPE, "--model_args", "dtype=float31")),
    ("no such checkpoint", "no such folder", (*POPE, "--model_args", "pretrained=./nowhere")),
    ("sampling", "temperature", (*POPE, "--gen_kwargs", "temperature=0.7")),
    ("text instead of a number in --gen_kwargs", "max_new_tokens", (*POPE, "--gen_kwargs", "max_new_tokens=many")),
    ("--config names a missing file", "no-such.yaml", ("--config", "no-such.yaml")),
    ("the trace folder is a file", "trace", (*POPE, "--model_args", "trace_dir=/dev/null/traces")),
)


def _asked(*more: str) -> Broken:
    return lambda folder, sound: Command(["eval", *more])


def _on_the_way() -> Iterator[Case]:
    yield Case("eval", "--config is not YAML", 2, "bad.yaml", _bad_config)
    yield Case("eval", "one of three images is damaged", 1, "bad_image", _images(_PNG, b"no image", _PNG))
    yield Case("eval", "two of three images are damaged", 1, "2 of 3", _images(_PNG, b"no image", _PNG[:60]))
    # lmms-eval itself opens the first image of a task while it loads it; ours hand theirs over undecoded.
    yield Case("eval", "the first image of a user's task is damaged", 3, "before it was scored", _images(b"no image"))
    yield Case(
        "eval", "PostScript with an image's file name", 1, "bad_image", _images(_PNG, b"%!PS-Adobe-3.0 EPSF\n", _PNG)
    )
    yield Case("eval", "an empty question", 1, "empty_question", _images(_PNG, question=" "))
    yield Case("eval", "the disk is full: traces", 1, "could not be stored", _disk(600))
    yield Case("eval", "the output folder is a file", 2, "out", _output_is_a_file)
    yield Case("eval", "standard output is closed", 0, "", _sound_eval(closed_output=True))
    yield Case(
        "eval",
        "standard output takes ASCII only",
        0,
        "df_pope_mini_random",
        _sound_eval(environment={"PYTHONIOENCODING": "ascii"}),
    )
    yield Case("eval", "the reader closes the pipe", 0, "", _sound_eval(reader=("head", "-c", "1")))


_file = io.BytesIO()
PILImage.new("RGB", (40, 30), (200, 30, 30)).save(_file, "PNG")
_PNG = _file.getvalue()


def _images(*stored: bytes, question: str = "Is it red?") -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        (folder / "tasks").mkdir()
        columns: dict[str, list[Any]] = {
            "image": [{"bytes": content, "path": None} for content in stored],
            "question": [question] * len(stored),
            "answer": ["x"] * len(stored),
        }
        features = Features({name: Image() if name == "image" else Value("string") for name in columns})
        Dataset.from_dict(columns, features=features).to_parquet(folder / "tasks" / "data.parquet")
        (folder / "tasks" / "mine.yaml").write_text(TASK)
        arguments = ["eval", "--model_args", f"pretrained={sound.checkpoint}", "--tasks", "mine"]
        return Command([*arguments, "--include_path", "tasks", "--output_path", "out", "--log_samples"])

    return broken


def _bad_config(folder: Path, sound: Sound) -> Command:
    (folder / "bad.yaml").write_text("model: [")
    return Command(["eval", "--config", "bad.yaml"])


def _disk(size: int) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        command = asking(f"pretrained={sound.checkpoint},trace_dir=traces")
        plain = [part for part in command.arguments if part not in ("--output_path", "out", "--log_samples")]
        return Command(plain, before=disk_of(size))

    return broken


def _output_is_a_file(folder: Path, sound: Sound) -> Command:
    (folder / "out").write_text("in the way")
    return asking(f"pretrained={sound.checkpoint}")


def _sound_eval(**how: Any) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        return Command(asking(f"pretrained={sound.checkpoint}").arguments, **how)

    return broken


def _afterwards() -> Iterator[Case]:
    for fault, reported, compared, said, spoil in _DAMAGES:
        yield Case("report", fault, reported, said, _read(spoil, "report", "run", "--out", "page"))
        yield Case("compare", fault, compared, "", _read(spoil, "compare", "sound", "run"))
    yield Case("report", "the report's folder has other files", 2, "page", _occupied)
    yield Case("report", "no such run", 2, "nowhere", lambda f, s: Command(["report", "nowhere", "--out", "page"]))
    yield Case("compare", "no such run", 2, "nowhere", lambda f, s: Command(["compare", s.run, "nowhere"]))
    for fault, said, spoil in _BASELINES:
        yield Case("regress", fault, 2, said, _judged(spoil))
    yield Case(
        "regress", "results.json is truncated", 2, "results", _read(_cut_results, "regress", "run", "--baseline")
    )
    for fault, status, said, arguments in _JUDGED:
        yield Case("regress", fault, status, said, _judging(*arguments))


def _results(run: Path) -> Path:
    return next(run.rglob("*_results.json"))


def _samples(run: Path) -> Path:
    return next(run.rglob("*_samples_*.jsonl"))


def _traces(run: Path) -> Path:
    return next(run.rglob("traces.rank*.jsonl"))


def _cut_results(run: Path) -> None:
    cut(_results(run))


def _foreign_traces(run: Path) -> None:
    path = _traces(run)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | {"settings_key": "0" * 32}) + "\n" for line in lines))
    _forget_traces(run)


def _lose_traces(run: Path) -> None:
    shutil.rmtree(_traces(run).parent)
    _forget_traces(run)


def _forget_traces(run: Path) -> None:
    """A copied run still knows the traces of the run that it was copied from."""
    changed_json(_results(run), lambda content: content["dualfocus"].update(traces="nowhere"))


# Whatever becomes of the traces, `compare` has all that it needs: the scores are in the samples.
_DAMAGES: tuple[tuple[str, int, int, str, Callable[[Path], object]], ...] = (
    ("results.json is truncated", 2, 2, "results", _cut_results),
    ("results.json is missing", 2, 2, "results", lambda run: _results(run).unlink()),
    ("the samples are missing", 1, 2, "samples", lambda run: _samples(run).unlink()),
    ("the samples are truncated", 1, 1, "sample", lambda run: cut(_samples(run), 0.7)),
    ("a trace is truncated", 1, 0, "trace", lambda run: cut(_traces(run), 0.9)),
    ("all traces belong to another run", 1, 0, "trace", _foreign_traces),
    ("the traces are missing", 1, 0, "trace", _lose_traces),
)


def _read(spoil: Callable[[Path], object], command: str, *arguments: str) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        spoil(copied(sound.run, folder))
        places = {"sound": str(sound.run), "run": sound.run.name}
        named = [places.get(argument, argument) for argument in arguments]
        return Command([command, *named, *([sound.baseline] if arguments[-1] == "--baseline" else [])])

    return broken


def _occupied(folder: Path, sound: Sound) -> Command:
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("mine")
    return Command(["report", sound.run, "--out", "page"])


def _judged(spoil: Callable[[Path], object]) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        baseline = Path(shutil.copy(sound.baseline, folder))
        spoil(baseline)
        return Command(["regress", sound.run, "--baseline", baseline])

    return broken


def _one_row(content: dict[str, Any]) -> None:
    content["tasks"] = {task: rows[:1] for task, rows in content["tasks"].items()}


_BASELINES: tuple[tuple[str, str, Callable[[Path], object]], ...] = (
    ("the baseline is truncated", "baseline", lambda b: cut(b)),
    ("the baseline is not an object", "baseline", lambda b: b.write_text("[]")),
    ("rows of the baseline are missing", "baseline", lambda b: changed_json(b, _one_row)),
    (
        "the baseline was edited",
        "was changed after it was written",
        lambda b: changed_json(b, lambda c: c.update(checkpoint="other")),
    ),
)


def _judging(run: str, baseline: str, *more: str) -> Broken:
    def broken(folder: Path, sound: Sound) -> Command:
        places = {"sound": sound.run, "moved": sound.moved, "its own": sound.baseline}
        return Command(["regress", places[run], "--baseline", places.get(baseline, baseline), *more])

    return broken


_FLOOR = ("--max-drop", "100", "--min-score", f"{TASK_NAME}=60")
_JUDGED: tuple[tuple[str, int, str, tuple[str, ...]], ...] = (
    ("answers got worse", 1, "regression", ("moved", "its own")),
    ("a score below --min-score", 1, TASK_NAME, ("moved", "its own", *_FLOOR)),
    ("the baseline covers other tasks", 2, "df_pope_mini", ("sound", "df_pope_mini")),
    ("no such baseline", 2, "nowhere.json", ("sound", "nowhere.json")),
)
