"""How soon a search on a Dask cluster notices what has gone, and goes on or ends, in seconds.

    python bench/departures.py

Scheduler and workers run on this machine. A worker that is stopped (SIGSTOP) stands for a host
whose cable was cut: neither says anything any more. Of a scheduler that is started again, the
seconds run from the start of the two commands to the result of a call, their imports included.
Needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import start
from report import free_port, report, spreads

from mmsearch.data.corpus import Vocabulary
from mmsearch.data.split import Words
from mmsearch.search.execution.dask_pool import DaskPool
from mmsearch.search.execution.executor import CallLostError, ExecutorLostError, WorkerDiedError

if TYPE_CHECKING:
    from subprocess import Popen

WORDS = Words(("emma", "ava"), ("olivia",), Vocabulary.of("emmaavaolivia"))
LONG_S = 600.0
"""Seconds of a call that does not end by itself."""
WAIT_S = 120.0
"""Seconds to wait for anything."""


def wait_for_slots(pool: DaskPool, n_slots: int) -> None:
    """Wait until so many calls can run at once."""
    deadline = time.monotonic() + WAIT_S
    while pool.n_slots() != n_slots:
        if time.monotonic() > deadline:
            raise SystemExit(f"{pool.n_slots()} slots in place of {n_slots}")
        time.sleep(0.01)


def seconds_to_fail(
    pool: DaskPool, worker: Popen[bytes], number: int, kind: type[Exception]
) -> float:
    """Send a signal to a worker in the middle of a call; return when that call fails."""
    call = pool.submit(time.sleep, LONG_S)
    time.sleep(1)
    if call.done():
        raise SystemExit(f"the call ended before the signal: {call.exception()!r}")
    begun = time.perf_counter()
    worker.send_signal(number)
    error = call.exception(WAIT_S)
    if not isinstance(error, kind):
        raise SystemExit(f"not {kind.__name__} but {error!r}")
    return time.perf_counter() - begun


def once(folder: Path) -> dict[str, float]:
    """Measure each kind once."""
    found: dict[str, float] = {}
    port = free_port()
    with contextlib.ExitStack() as stack:

        def run(kind: str) -> Popen[bytes]:
            return stack.enter_context(start(kind, port, folder, n_threads=1))

        scheduler, worker = run("scheduler"), run("worker")
        pool = stack.enter_context(DaskPool(f"tcp://127.0.0.1:{port}", WORDS, print, None))
        pool.start()
        wait_for_slots(pool, 1)
        found["a worker that is killed"] = seconds_to_fail(
            pool, worker, signal.SIGKILL, WorkerDiedError
        )
        wait_for_slots(pool, 0)
        worker = run("worker")
        wait_for_slots(pool, 1)
        found["a worker that is stopped"] = seconds_to_fail(
            pool, worker, signal.SIGSTOP, CallLostError
        )
        worker.kill()
        wait_for_slots(pool, 0)
        scheduler.kill()
        scheduler.wait()
        scheduler, worker = run("scheduler"), run("worker")
        begun = time.perf_counter()
        wait_for_slots(pool, 1)
        pool.submit(os.getpid).result(WAIT_S)
        found["a scheduler that is started again with a worker"] = time.perf_counter() - begun
        scheduler.kill()
        begun = time.perf_counter()
        with contextlib.suppress(ExecutorLostError):
            wait_for_slots(pool, 2)
        found["a scheduler that does not come back"] = time.perf_counter() - begun
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runs = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            runs.append(once(Path(scratch)))
    figures = spreads(runs)
    rows = [
        {"what is gone": name, **{key: f"{value:.1f}" for key, value in its.items()}}
        for name, its in figures.items()
    ]
    report("departures", "seconds", rows, {"settings": vars(arguments), "figures": figures})


if __name__ == "__main__":
    main()
