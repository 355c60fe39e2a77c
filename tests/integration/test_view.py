"""`dualfocus view` as a user has it: a real run, the real command, a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.integration.browser import OpenPage, browser, open_page, overflow, serious_issues
from tests.integration.conftest import BIN
from tests.viewing.runs import TASK, failed, note, put, trace

__all__ = ["browser", "open_page"]

TASKS, QUESTIONS = "df_scenes_mini,df_pope_mini_random", 24
_SECONDS = 180
View = Callable[[Path], tuple[subprocess.Popen[str], str]]


def _interruptible() -> None:
    """Undo what a shell does to what it runs in the background: the tests themselves may be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command makes its temporary folder."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture
def view(environment: dict[str, str], temporary: Path) -> Iterator[View]:
    """A function that starts the command for a folder; the process and the address."""
    started: list[subprocess.Popen[str]] = []

    def view(place: Path) -> tuple[subprocess.Popen[str], str]:
        command = [str(BIN / "dualfocus"), "view", str(place), "--port", "0"]
        env = {**environment, "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=_interruptible
        )
        started.append(process)
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        return process, found[0]

    yield view
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def answering(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A function that starts a run in the folder ``run``, and returns when some of its answers are there and it is
    stopped in mid-run, so that no test depends on how fast it is."""
    started: list[subprocess.Popen[bytes]] = []

    def answering() -> subprocess.Popen[bytes]:
        command = [
            str(BIN / "dualfocus"), "eval", "--tasks", TASKS, "--limit", str(QUESTIONS), "--batch_size", "1",
            "--output_path", str(tmp_path / "run"), "--log_samples",
        ]  # fmt: skip
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        started.append(process)
        deadline = time.monotonic() + _SECONDS
        traces = tmp_path / "run" / "traces" / "traces.rank0000.jsonl"
        while not (traces.exists() and traces.stat().st_size):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)  # a look at a file; the answers come many in a second
        process.send_signal(signal.SIGSTOP)
        return process

    yield answering
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def test_a_run_is_watched_until_its_report(
    answering: Callable[[], subprocess.Popen[bytes]], view: View, open_page: OpenPage, tmp_path: Path
) -> None:
    run = answering()
    process, address = view(tmp_path / "run")
    tab = open_page(address, origin=address)
    page = tab.page
    expect(page.locator("#phase")).to_have_text("The run is answering.", timeout=60_000)
    expect(page.locator("#scores tbody tr")).to_have_count(2)
    expect(page.locator("#answered")).to_have_text(re.compile(rf"^\d+ of {2 * QUESTIONS}$"))
    expect(page.locator("#scores td .ci").first).to_be_visible(timeout=60_000)
    assert page.locator("#scores tbody tr td:first-child").all_inner_texts() == TASKS.split(",")
    assert serious_issues(tab) == []
    run.send_signal(signal.SIGCONT)
    expect(page.locator("#answered")).to_have_text(f"{2 * QUESTIONS} of {2 * QUESTIONS}", timeout=_SECONDS * 1000)
    expect(page.locator("#report")).to_be_visible(timeout=_SECONDS * 1000)
    assert run.wait() == 0
    assert page.locator("#scores tbody tr td:nth-child(2)").all_inner_texts() == [f"{QUESTIONS} of {QUESTIONS}"] * 2
    for name, score in zip(
        TASKS.split(","), page.locator("#scores tbody tr td:nth-child(5)").all_inner_texts(), strict=True
    ):
        assert score.startswith(f"{100 * accuracy_of(tmp_path / 'run', name):.1f}%")
    page.get_by_role("link", name="Open the report").click()
    expect(page).to_have_url(re.compile(r"/report/index\.html$"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("DualFocus")
    page.goto(f"{address}/report/inspect.html")
    expect(page.locator("#cards img").first).to_be_visible(timeout=30_000)
    assert page.locator("#cards img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "dualfocus view: stopped" in output


def accuracy_of(run: Path, task: str) -> float:
    """By lmms-eval's own results."""
    (path,) = run.rglob("*_results.json")
    results = json.loads(path.read_text())["results"][task]
    return next(float(value) for name, value in results.items() if name.startswith("accuracy,"))


def test_a_finished_run_opens_with_its_report(view: View, open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "20260101_000000_results.json").write_text(
        '{"results": {}, "n-samples": {}, "configs": {}, "config": {}, "date": "20260101_000000"}'
    )
    _, address = view(tmp_path)
    page = open_page(address, origin=address).page
    expect(page).to_have_url(re.compile(r"/report/index\.html$"), timeout=60_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_killed_run_with_bad_texts(view: View, open_page: OpenPage, tmp_path: Path, scheme: str) -> None:
    folder, evil = tmp_path / "traces", "<img src=x onerror=alert(1)>\u202e" + "x" * 10_000
    note(folder, {TASK: range(9), evil: range(3)}, model=evil, started=time.time() - 4000)
    path = put(folder, [trace(0), trace(1, evil, evil), failed(2, evil, evil)])
    with path.open("ab") as file:
        file.write(trace(3).to_json().encode()[:40])
    os.utime(path, (time.time() - 3661, time.time() - 3661))
    _, address = view(tmp_path)
    tab = open_page(address, origin=address, width=420, height=800, color_scheme=scheme)
    page = tab.page
    expect(page.locator("#phase")).to_have_text(re.compile(r"^No new answer for 1 h 1 min\."))
    expect(page.locator("#answered")).to_have_text("3 of 12")
    expect(page.locator("#remarks li").first).to_be_visible(timeout=60_000)
    assert page.locator("main img, main script").count() == 0
    assert overflow(tab) == 0
    assert serious_issues(tab) == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_is_stopped_while_a_page_is_open(
    view: View, open_page: OpenPage, tmp_path: Path, temporary: Path, stop: signal.Signals
) -> None:
    note(tmp_path / "traces", {TASK: range(2)}, started=time.time())
    process, address = view(tmp_path)
    tab = open_page(address, origin=address)
    expect(tab.page.locator("#answered")).to_have_text("0 of 2", timeout=30_000)
    assert len(list(temporary.iterdir())) == 1
    process.send_signal(stop)
    assert process.wait(timeout=60) == 0
    assert list(temporary.iterdir()) == []
    expect(tab.page.locator("#phase")).to_contain_text("was stopped")
    tab.errors.clear()  # the browser logs that nobody answers
