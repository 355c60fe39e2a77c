import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dualfocus_eval.engines.base import Completion, Failure
from dualfocus_eval.method.question import Question
from dualfocus_eval.traces.record import Trace
from dualfocus_eval.traces.store import StoreInUseError, TraceStore
from dualfocus_eval.traces.trace_files import join_traces
from tests.full_disk import file_size_limit

KEY = "settings"


def ask(number: int) -> Question:
    return Question(f"q{number}", f"What is {number}?", f"What is {number}?", ())


def trace_of(question: Question, text: str = "red", key: str = KEY) -> Trace:
    macro = Completion(text, (1, 0), (-0.5, -0.5), "eos")
    return Trace(question.key, question.digest, key, "short", (), macro, selected="macro")


def fill(folder: Path, numbers: range, *, rank: int = 0, key: str = KEY) -> Path:
    with TraceStore(folder, key, rank=rank) as store:
        for number in numbers:
            store.put(trace_of(ask(number), key=key))
        return store.path


def test_an_answer_is_found_again_by_question_text_and_images(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    with TraceStore(tmp_path, KEY) as store:
        assert store.get(ask(1)) == trace_of(ask(1))
        assert store.get(ask(7)) is None
        assert store.get(replace(ask(1), prompt="What else?")) is None
        assert store.get(replace(ask(1), key="other")) is None
        assert store.reused == 1
        assert store.counts.loaded == 3


def test_all_ranks_are_read_whatever_their_number_is_now(tmp_path: Path) -> None:
    fill(tmp_path, range(0, 3), rank=0)
    fill(tmp_path, range(3, 5), rank=1)
    with TraceStore(tmp_path, KEY, rank=0) as store:
        assert all(store.get(ask(number)) for number in range(5))
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_other_settings_are_ignored_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, range(2), key="other")
    with TraceStore(tmp_path, KEY) as store:
        assert store.get(ask(0)) is None
        assert store.counts.other_settings == 2
        store.put(trace_of(ask(0)))
    assert [trace.settings_key for trace in join_traces(tmp_path)] == ["other", "other", KEY]
    assert len(list(join_traces(tmp_path, "other"))) == 2


TORCH_14, TORCH_15 = ({"torch": version, "device": "cpu"} for version in ("2.14.0", "2.15.0"))


def put(folder: Path, numbers: range, arithmetic: dict[str, str] | None, text: str = "red", *, rank: int = 0) -> None:
    with TraceStore(folder, KEY, arithmetic=arithmetic, rank=rank) as store:
        for number in numbers:
            store.put(replace(trace_of(ask(number), text), arithmetic=arithmetic or {}))


def test_answers_of_other_versions_are_not_reused_and_named(tmp_path: Path) -> None:
    put(tmp_path, range(1200), TORCH_14)
    with TraceStore(tmp_path, KEY, arithmetic=TORCH_15) as store:
        assert store.get(ask(0)) is None
        assert store.not_reused == ("1,200 stored answers of torch 2.14.0 are not reused: this run has torch 2.15.0",)
    put(tmp_path, range(1000), TORCH_15, "blue", rank=1)
    with TraceStore(tmp_path, KEY, arithmetic=TORCH_15) as store:
        found = store.get(ask(0))
        assert found is not None
        assert found.text == "blue"
        # Of the first thousand there is an answer by now.
        assert store.not_reused == ("200 stored answers of torch 2.14.0 are not reused: this run has torch 2.15.0",)


def test_going_back_to_the_older_versions_finds_their_answers(tmp_path: Path) -> None:
    put(tmp_path, range(3), TORCH_14, "red")
    put(tmp_path, range(3), TORCH_15, "blue")
    for arithmetic, text in ((TORCH_14, "red"), (TORCH_15, "blue")):
        with TraceStore(tmp_path, KEY, arithmetic=arithmetic) as store:
            found = store.get(ask(1))
            assert found is not None
            assert found.text == text
            assert store.not_reused == ()


def test_every_difference_is_named(tmp_path: Path) -> None:
    put(tmp_path, range(1), TORCH_14 | {"peft": "0.21.2"})
    put(tmp_path, range(1, 3), None, rank=1)
    with TraceStore(tmp_path, KEY, arithmetic=TORCH_15 | {"device": "cuda"}) as store:
        assert not any(store.get(ask(number)) for number in range(3))
        assert sorted(store.not_reused) == [
            "1 stored answers of torch 2.14.0, device cpu, peft 0.21.2 are not reused: "
            "this run has torch 2.15.0, device cuda, peft (none)",
            "2 stored answers are not reused: they do not say which versions and which device computed them",
        ]


def test_a_cut_off_last_line_costs_one_answer_and_hides_no_other(tmp_path: Path) -> None:
    path = fill(tmp_path, range(3))
    path.write_bytes(path.read_bytes()[:-40])
    with TraceStore(tmp_path, KEY) as store:
        assert (store.counts.loaded, store.counts.truncated, store.counts.damaged) == (2, 1, 0)
        store.put(trace_of(ask(9)))
    with TraceStore(tmp_path, KEY) as store:
        assert store.get(ask(9)) == trace_of(ask(9))
        # The stump now has a line of its own.
        assert (store.counts.loaded, store.counts.truncated, store.counts.damaged) == (3, 0, 1)


def test_damaged_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    path = fill(tmp_path, range(2))
    path.write_bytes(b'{"half": \n\xff\xfe\n\n' + path.read_bytes())
    with TraceStore(tmp_path, KEY) as store:
        assert (store.counts.loaded, store.counts.damaged) == (2, 2)


def test_a_failed_question_is_tried_again(tmp_path: Path) -> None:
    failed = replace(trace_of(ask(0)), macro=None, selected=None, error=Failure("out_of_memory", ""))
    impaired = replace(trace_of(ask(1)), fallback="micro_failed", cause=Failure("out_of_memory", ""))
    with TraceStore(tmp_path, KEY) as store:
        store.put(failed)
        store.put(impaired)
        assert store.get(ask(0)) is None
    with TraceStore(tmp_path, KEY) as store:
        assert store.get(ask(0)) is None
        assert store.get(ask(1)) is None
        store.put(trace_of(ask(0)))
        store.put(failed)
    # Both are on record for the report, the better one of each question counts.
    assert list(join_traces(tmp_path)) == [trace_of(ask(0)), impaired]


def test_the_last_of_several_answers_counts(tmp_path: Path) -> None:
    with TraceStore(tmp_path, KEY) as store:
        store.put(trace_of(ask(0), "red"))
        store.put(trace_of(ask(0), "blue"))
    (trace,) = join_traces(tmp_path)
    assert trace.text == "blue"


def test_two_live_processes_cannot_write_one_file(tmp_path: Path) -> None:
    with TraceStore(tmp_path, KEY):
        with pytest.raises(StoreInUseError, match="another run"):
            TraceStore(tmp_path, KEY)
        TraceStore(tmp_path, KEY, rank=1).close()
    TraceStore(tmp_path, KEY).close()


def test_a_full_disk_loses_nothing_and_stops_nothing(tmp_path: Path) -> None:
    with TraceStore(tmp_path, KEY) as store:
        store.put(trace_of(ask(0)))
        size = store.path.stat().st_size
        with file_size_limit(size + 100):
            store.put(trace_of(ask(1)))
            store.put(trace_of(ask(2)))
            assert store.path.stat().st_size == size  # no half line
            assert store.unwritten == 2
            assert store.write_failures == {"EFBIG": 2}
            assert store.get(ask(2)) == trace_of(ask(2))
            assert list(join_traces(tmp_path)) == [trace_of(ask(0))]
        store.put(trace_of(ask(3)))
        assert store.unwritten == 0
    assert [trace.key for trace in join_traces(tmp_path)] == ["q0", "q1", "q2", "q3"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_no_space_left_is_named(tmp_path: Path) -> None:
    path = tmp_path / "traces.rank0000.jsonl"
    path.symlink_to("/dev/full")
    with pytest.MonkeyPatch.context() as patch:
        # The store takes no device for a file, and /dev/full is endless to read.
        patch.setattr("dualfocus_eval.traces.store.check_regular", lambda path: None)
        patch.setattr("dualfocus_eval.traces.trace_files.trace_files", lambda folder: [])
        store = TraceStore(tmp_path, KEY)
    store.put(trace_of(ask(0)))
    store.close()
    assert store.write_failures == {"ENOSPC": 2}
    assert store.unwritten == 1


def delete_file(store: TraceStore) -> None:
    store.path.unlink()


def delete_folder(store: TraceStore) -> None:
    shutil.rmtree(store.folder)


def replace_file(store: TraceStore) -> None:
    store.path.rename(store.folder / "moved")
    store.path.write_text("")


def empty_file(store: TraceStore) -> None:
    os.truncate(store.path, 0)


def cut_file(store: TraceStore) -> None:
    os.truncate(store.path, store.path.stat().st_size - 40)


@pytest.mark.parametrize("damage", [delete_file, delete_folder, replace_file, empty_file, cut_file])
@pytest.mark.parametrize("more", [1, 0], ids=["noticed by the next answer", "noticed at the end"])
def test_answers_whose_file_was_damaged_in_mid_run_are_written_anew(
    tmp_path: Path, damage: Callable[[TraceStore], None], more: int
) -> None:
    folder = tmp_path / "traces"
    fill(folder, range(2))
    failed = replace(trace_of(ask(2)), macro=None, selected=None, error=Failure("out_of_memory", ""))
    with TraceStore(folder, KEY) as store:
        store.put(failed)
        store.put(trace_of(ask(3)))
        damage(store)
        for number in range(4, 4 + more):
            store.put(trace_of(ask(number)))
    assert store.unwritten == 0
    assert store.rewritten == (1 if damage is cut_file else 4)
    keys = [trace.key for trace in join_traces(folder)]
    assert sorted(keys) == [f"q{number}" for number in range(4 + more)]
    with TraceStore(folder, KEY) as again:
        assert again.counts.loaded == 4 + more
        assert again.rewritten == 0


def test_answers_that_cannot_be_written_anew_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    with TraceStore(folder, KEY) as store:
        store.put(trace_of(ask(0)))
        shutil.rmtree(folder)
        folder.write_text("in its place")
        store.put(trace_of(ask(1)))
        assert store.unwritten == 2
    assert store.unwritten == 2
    assert store.write_failures == {"EEXIST": 2}


WRITER = """
import sys
from tests.traces.test_store import KEY, ask, trace_of
from dualfocus_eval.traces.store import TraceStore
store = TraceStore(sys.argv[1], KEY)
for number in range(1_000_000):
    store.put(trace_of(ask(number)))
    print(number, flush=True)
"""


def test_every_answer_that_was_put_survives_kill_9(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    ) as writer:
        assert writer.stdout
        for _ in range(200):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    with TraceStore(tmp_path, KEY) as store:
        assert all(store.get(ask(number)) == trace_of(ask(number)) for number in range(last + 1))
        assert store.counts.damaged == 0


def test_a_folder_in_place_of_a_trace_file_costs_only_itself(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    (tmp_path / "traces.rank0001.jsonl").mkdir()
    with TraceStore(tmp_path, KEY) as again:
        assert (again.counts.loaded, again.counts.unreadable) == (1, 1)


def test_a_pipe_in_place_of_a_trace_file_is_never_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, range(1))
    os.mkfifo(tmp_path / "traces.rank0001.jsonl")
    with TraceStore(tmp_path, KEY) as again:
        assert (again.counts.loaded, again.counts.unreadable) == (1, 1)
    with pytest.raises(OSError, match="it is not a regular file"):
        TraceStore(tmp_path, KEY, rank=1)
