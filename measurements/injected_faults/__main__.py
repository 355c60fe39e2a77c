"""Runs the cases and shows their table."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dualfocus_eval.common.tables import Table, fill_page, to_markdown
from measurements.injected_faults import building, checkpoints, runs
from measurements.injected_faults.cases import TASK_NAME, Case, Command, Sound

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
DUALFOCUS = (sys.executable, "-m", "dualfocus_eval")
TIMEOUT = 300
"""Seconds. No case takes a fifth of it; one that does hangs."""


def all_cases() -> list[Case]:
    """Every case, by command in the order in which the table shows them."""
    return [*runs.cases(), *checkpoints.cases(), *building.cases()]


def main() -> int:
    """Run the cases; the exit status is 1 where any ended otherwise than is right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="only cases whose command and fault contain this")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes at a time")
    chosen = parser.parse_args()
    if chosen.write and chosen.only:
        parser.error("--write is for all cases")
    cases = [case for case in all_cases() if chosen.only in f"{case.command}: {case.fault}"]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        sound = _make_sound(Path(folder) / "sound")
        for case, fault in _run_all(cases, sound, Path(folder), chosen.jobs):
            wrong += bool(fault)
            print(
                f"{'WRONG' if fault else 'right'} {case.command}: {case.fault}: status {case.status}{fault}", flush=True
            )
    print(f"{len(cases) - wrong} of {len(cases)} injected faults ended as they should")
    if chosen.write and not wrong:
        fill_page(PAGE, {"injected faults": to_markdown(table(cases))})
    return int(wrong > 0)


def table(cases: Sequence[Case]) -> Table:
    """What docs/reliability.md shows."""
    rows = tuple((case.command, case.fault, case.status) for case in cases)
    return Table("Injected faults", ("command", "fault", "exit status"), (rows,), (f"{len(cases)} cases.",))


def _run_all(cases: Sequence[Case], sound: Sound, folder: Path, jobs: int) -> Iterator[tuple[Case, str]]:
    """Each case with what is wrong about how it ended, empty where all is right."""
    places = [folder / f"{number:03}" for number in range(len(cases))]
    with ThreadPoolExecutor(jobs) as pool:
        yield from zip(cases, pool.map(_verdict, cases, [sound] * len(cases), places), strict=True)


def _verdict(case: Case, sound: Sound, place: Path) -> str:
    place.mkdir()
    try:
        status, output = _run(case.broken(place, sound), place)
    except subprocess.TimeoutExpired:
        return f", but it hangs (over {TIMEOUT} s)"
    if status != case.status:
        return f", but it was {status}:\n{_last_lines(output)}"
    if case.said not in output:
        return f", but nothing says {case.said!r}:\n{_last_lines(output)}"
    if status == 2 and "Traceback" in output:
        return f", but with a traceback:\n{_last_lines(output)}"
    return ""


def _last_lines(output: str) -> str:
    return "\n".join(f"    {line}" for line in output.splitlines()[-8:])


def _run(command: Command, folder: Path) -> tuple[int, str]:
    """Exit status and all that was printed, standard output and error together."""
    offline = {"HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [*DUALFOCUS, *map(str, command.arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **offline, **command.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if command.reader else subprocess.STDOUT,
        preexec_fn=_before(command),
    )
    if command.reader:
        subprocess.run(command.reader, stdin=started.stdout, stdout=subprocess.DEVNULL, check=False, timeout=TIMEOUT)
        assert started.stdout
        started.stdout.close()
        assert started.stderr
        errors = started.stderr.read()
        return started.wait(TIMEOUT), errors.decode(errors="replace")
    try:
        output, _ = started.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        started.kill()
        raise
    return started.returncode, output.decode(errors="replace")


def _before(command: Command):  # type: ignore[no-untyped-def]
    def before() -> None:
        if command.before:
            command.before()
        if command.closed_output:
            os.close(1)

    return before if command.before or command.closed_output else None


def _make_sound(folder: Path) -> Sound:
    from measurements.original_llava import write_checkpoint
    from tests.random_checkpoints import save_random_checkpoint

    folder.mkdir()
    write_checkpoint(folder / "original")
    checkpoint = save_random_checkpoint(folder / "checkpoint")
    sound = Sound(checkpoint, folder / "run", folder / "baseline.json", folder / "moved", folder / "original")
    asked = ("eval", "--tasks", TASK_NAME, "--limit", "8", "--log_samples")
    _succeed(folder, *asked, "--output_path", sound.run)
    _succeed(folder, *asked, "--model_args", "strategy=macro", "--output_path", sound.moved)
    _succeed(folder, "regress", sound.run, "--baseline", sound.baseline, "--update")
    return sound


def _succeed(folder: Path, *arguments: str | Path) -> None:
    status, output = _run(Command(arguments), folder)
    if status:
        raise SystemExit(f"dualfocus {' '.join(map(str, arguments))} ended with status {status}:\n{output}")


if __name__ == "__main__":
    sys.exit(main())
