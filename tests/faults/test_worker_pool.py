"""The pool is an Executor whose workers die alone, ignore Ctrl-C and end with their parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from mmsearch.data.corpus import Vocabulary
from mmsearch.data.split import Words
from mmsearch.errors import MMSearchError
from mmsearch.search.execution import worker, worker_pool
from mmsearch.search.execution.executor import CallLostError, WorkerDiedError
from mmsearch.search.execution.worker_pool import MAX_STARTS, WorkerPool
from tests.support.waiting import PATIENCE_S, wait_until

WORDS = Words(("emma",), ("olivia",), Vocabulary.of("emmaolivia"))

PARENT = """
import multiprocessing, time
from mmsearch.data.corpus import Vocabulary
from mmsearch.data.split import Words
from mmsearch.search.execution import worker
from mmsearch.search.execution.worker_pool import WorkerPool

if __name__ == "__main__":
    words = Words(("emma",), ("olivia",), Vocabulary.of("emmaolivia"))
    with WorkerPool(2, worker.start, (words,)) as pool:
        for call in [pool.submit(abs, -1), pool.submit(abs, -2)]:
            call.result()
        busy = pool.submit(time.sleep, 600)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Gate:
    """A call that a worker stays in until the test lets it out."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path

    def submit_to(self, pool: WorkerPool) -> Any:
        """Send a worker in."""
        return pool.submit(Path.read_text, self.path)

    def open(self, text: str) -> None:
        """Wait until a worker is in, and let it out with this result."""
        descriptor = -1

        def is_read() -> bool:
            nonlocal descriptor
            try:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                return False
            return True

        wait_until(is_read)
        os.write(descriptor, text.encode())
        os.close(descriptor)


@pytest.fixture
def gates(tmp_path: Path) -> list[Gate]:
    """Make three gates."""
    return [Gate(tmp_path / f"gate-{number}") for number in range(3)]


@pytest.fixture
def make_pool() -> Iterator[Callable[..., WorkerPool]]:
    """Make pools whose workers start fast, as they have no words; end them after the test."""
    pools = []

    def make(n_workers: int, *first: Any) -> WorkerPool:
        pools.append(WorkerPool(n_workers, *(first or (time.sleep, (0,)))))
        return pools[-1]

    yield make
    for child in multiprocessing.active_children():
        child.kill()
    for pool in pools:
        pool.shutdown()


def children() -> set[int]:
    """Return the pids of the living workers."""
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def assert_at_once(pool: WorkerPool, gates: Sequence[Gate]) -> None:
    """Check that each gate has a worker at the same time: the last is let out first."""
    calls = [gate.submit_to(pool) for gate in gates]
    for number in reversed(range(len(gates))):
        gates[number].open(f"call {number}")
        assert calls[number].result(PATIENCE_S) == f"call {number}"


def test_calls_go_to_idle_workers(make_pool: Callable[..., WorkerPool], gates: list[Gate]) -> None:
    """Three workers take three calls at once; a short call never waits behind a long one."""
    pool = make_pool(3)

    assert_at_once(pool, gates)
    assert_at_once(pool, gates)
    assert len(children()) == 3

    long_calls = [gate.submit_to(pool) for gate in gates[:2]]
    short = [pool.submit(os.getpid).result(PATIENCE_S) for _ in range(3)]
    assert len(set(short)) == 1
    for gate, call in zip(gates[:2], long_calls, strict=True):
        assert not call.done()
        gate.open("done")
        assert call.result(PATIENCE_S) == "done"


def _die_while_answering() -> bytes:
    """Answer at a length that no pipe holds, and be killed once the answer has begun."""

    def n_written() -> int:
        counts = Path("/proc/self/io").read_text()
        return int(counts.partition("wchar: ")[2].split()[0])

    before = n_written()

    def watch() -> None:
        while n_written() == before:
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return bytes(2**28)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_worker_killed_in_the_middle_of_its_answer_fails_its_call(
    make_pool: Callable[..., WorkerPool],
) -> None:
    """Half an answer is no answer, and nothing waits for the other half."""
    pool = make_pool(1)
    for _ in range(3):
        with pytest.raises(BrokenExecutor):
            pool.submit(_die_while_answering).result(PATIENCE_S)
    assert pool.submit(abs, -1).result(PATIENCE_S) == 1


def test_worker_killed_before_it_has_read_its_call_fails_it(
    make_pool: Callable[..., WorkerPool],
) -> None:
    """Nothing waits for a dead worker to read on."""
    pool = make_pool(1)
    pid = pool.submit(os.getpid).result(PATIENCE_S)
    os.kill(pid, signal.SIGSTOP)
    call = pool.submit(len, bytes(2**24))

    os.kill(pid, signal.SIGKILL)

    with pytest.raises(BrokenExecutor):
        call.result(PATIENCE_S)
    assert pool.submit(abs, -1).result(PATIENCE_S) == 1


def test_workers_start_before_their_first_call(
    make_pool: Callable[..., WorkerPool], gates: list[Gate]
) -> None:
    """Workers import torch while the coordinator opens its databases."""
    pool = make_pool(2)
    assert children() == set()

    pool.start()
    wait_until(lambda: len(children()) == 2)
    started = children()

    assert_at_once(pool, gates[:2])
    assert children() == started


def _die(marks: Path, n_times: int) -> None:
    """Die at the start, the first `n_times` that a worker starts."""
    n_before = len(list(marks.iterdir()))
    (marks / str(n_before)).touch()
    if n_before < n_times:
        signal.raise_signal(signal.SIGKILL)


def test_worker_killed_in_its_start_is_started_again(tmp_path: Path) -> None:
    """Up to `MAX_STARTS` times; then the search ends and says why."""
    with WorkerPool(1, _die, (tmp_path, MAX_STARTS - 1)) as pool:
        pool.start()
        pool.check()
        assert pool.submit(abs, -1).result(PATIENCE_S) == 1
    n_before = len(list(tmp_path.iterdir()))
    with WorkerPool(1, _die, (tmp_path, 100)) as pool:
        pool.start()
        with pytest.raises(MMSearchError, match="signal 9"):
            pool.check()
    assert len(list(tmp_path.iterdir())) == n_before + MAX_STARTS


def _start_if(marker: Path) -> None:
    """Die at the start unless a file exists."""
    if not marker.exists():
        signal.raise_signal(signal.SIGKILL)


def test_worker_that_cannot_start_again_is_charged_to_no_call(
    tmp_path: Path, make_pool: Callable[..., WorkerPool], gates: list[Gate]
) -> None:
    """As long as another one runs, its calls can be made there."""
    marker = tmp_path / "marker"
    marker.touch()
    pool = make_pool(2, _start_if, (marker,))
    assert_at_once(pool, gates[:2])
    marker.unlink()
    running = gates[0].submit_to(pool)
    wait_until(running.running)
    with pytest.raises(WorkerDiedError):
        pool.submit(signal.raise_signal, signal.SIGKILL).result(PATIENCE_S)
    for _ in range(3):
        with pytest.raises(CallLostError):
            pool.submit(abs, -1).result(PATIENCE_S)
    gates[0].open("done")
    assert running.result(PATIENCE_S) == "done"


def test_worker_that_raises_in_its_start_is_not_started_again(tmp_path: Path) -> None:
    """A worker that cannot start is reported once."""
    with WorkerPool(1, os.mkdir, (tmp_path,)) as pool:  # which exists
        pool.start()
        with pytest.raises(MMSearchError):
            pool.check()


def test_worker_that_does_not_exit_is_killed(
    make_pool: Callable[..., WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "EXIT_S", 0.1)
    pool = make_pool(1)
    pid = pool.submit(os.getpid).result(PATIENCE_S)
    os.kill(pid, signal.SIGSTOP)
    pool.shutdown()
    assert not is_running(pid)


def test_shutdown_ends_the_workers(make_pool: Callable[..., WorkerPool], gates: list[Gate]) -> None:
    """A finished search leaves no process behind."""
    pool = make_pool(2)
    assert_at_once(pool, gates[:2])
    pids = children()
    assert len(pids) == 2

    pool.shutdown()

    assert not any(is_running(pid) for pid in pids)
    with pytest.raises(RuntimeError):
        pool.submit(os.getpid)


def test_signal_to_the_group_ends_no_worker() -> None:
    """Ctrl-C reaches all processes of a group, and segments in flight are to be finished."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with WorkerPool(1, worker.start, (WORDS,)) as pool:
        first = pool.submit(os.getpid)
        wait_until(lambda: len(children()) == 1)
        [pid] = children()
        for number in numbers:  # in the middle of its start
            os.kill(pid, number)
        assert first.result(PATIENCE_S) == pid
        for number in numbers:
            os.kill(pid, number)
            assert pool.submit(os.getpid).result(PATIENCE_S) == pid
    assert not set(numbers) & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """After kill -9 of a search no worker is left, whether it was busy or idle."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert len(set(pids)) == 2
            assert all(is_running(pid) for pid in pids)
        finally:
            parent.kill()

        wait_until(lambda: not any(is_running(pid) for pid in pids))
