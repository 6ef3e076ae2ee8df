"""What the coordinator costs over a Dask cluster, by the number of its slots.

    python bench/cluster.py --slots 16 --segments 60

The study is that of `growth.py`, new, with the databases of `mmsearch run`. A segment sleeps in
proportion to its cost by `model/cost.py` instead of training; `--mean-s` is the mean expected, and
the mean found is printed. Slots are threads of `N_PROCESSES` worker processes on this machine, of
which each window has new ones; `WARM_UP` segments a slot come before it.

Utilisation is the sleep of the window's segments over its seconds times slots. Milliseconds are of
processor time by part, where that of the workers has the making of weights in it, and then of the
wall time of the coordinator's calls, which may wait for Python's lock. All parts share the machine
and slow each other down. With `--independent`, decisions have no order, as in a confirmation.
Needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from growth import Instant, Window, coordinate, open_session, sleep
from report import busy_s, environment, free_port, report, spreads

from mmsearch.search.execution.executor import make_executor
from mmsearch.search.execution.search_job import Search
from mmsearch.search.results.publish import make_tracker
from mmsearch.tracking.uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmsearch.tracking.view import View

N_PROCESSES, WARM_UP = 4, 4
START_S = 120.0
"""Seconds to wait for the cluster, and for a database."""
CALLS = {
    "proposer": ("ask", "report", "should_prune", "tell"),
    "journal": ("start", "append", "finish"),
    "executor": ("submit",),
}
"""The coordinator's calls whose wall time is measured."""


@contextlib.contextmanager
def start(kind: str, port: int, folder: Path, n_threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a scheduler or a worker of it, and kill it at the end."""
    options = ["--no-dashboard", "--host", "127.0.0.1"]
    own = {
        "scheduler": ["--port", f"{port}", "--dashboard-address", "127.0.0.1:0"],
        "worker": [f"tcp://127.0.0.1:{port}", "--no-nanny", "--nthreads", f"{n_threads}"],
    }
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, *own[kind]]
    env = {**environment(folder), "PYTHONPATH": str(Path(__file__).parent)}
    with (
        (folder / "cluster.txt").open("ab") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log) as process,  # noqa: S603 (our words)
    ):
        try:
            yield process
        finally:
            process.kill()


def time_calls(owner: object, name: str, wall: Counter[str]) -> None:
    """Add up the wall time of a method's calls."""
    call = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        result = call(*args, **kwargs)
        wall[f"{name}, wall"] += time.perf_counter() - begun
        return result

    setattr(owner, name, timed)


def clocks(processes: list[int]) -> Counter[str]:
    """Return the processor time by part; called by the coordinator's thread."""
    spent = Counter({"other threads": time.process_time(), "coordinator": time.thread_time()})
    for thread in threading.enumerate():
        if thread.name.startswith(("dask", "uploader")):
            clock = time.pthread_getcpuclockid(thread.ident or 0)
            spent[thread.name] += time.clock_gettime(clock)
    spent["other threads"] = 2 * spent["other threads"] - spent.total()
    for n, pid in enumerate(processes):
        ticks = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[11:13]
        spent["workers" if n else "scheduler"] += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return spent


def once(folder: Path, arguments: argparse.Namespace, slots: int) -> dict[str, float]:
    """Measure one window."""
    n_lanes = slots * arguments.lanes
    job, trial = (Search(open_session(folder / name, n_lanes)) for name in ("runs", "rehearsal"))
    session, vocab_size = job.session, job.session.corpus.vocabulary.size
    sizes = (WARM_UP * slots, arguments.segments)
    # The order of decisions makes the trials the same, whatever trains them.
    instant = partial(sleep, 1e-9, vocab_size)
    with coordinate(trial, Instant(), instant, n_lanes, n_lanes) as rehearsing:
        rehearsal = Window(rehearsing, *sizes, dict)
        rehearsal.run()
    scale = 1e-9 * arguments.mean_s * rehearsal.n_inside / rehearsal.wall_s
    wall: Counter[str] = Counter()

    def mark() -> Counter[str]:
        now = {"window": time.perf_counter(), "machine": busy_s()}
        return Counter({**now, **clocks(processes), **wall})

    with contextlib.ExitStack() as stack:
        port = free_port()
        processes = [
            stack.enter_context(start(kind, port, folder, slots // N_PROCESSES)).pid
            for kind in ("scheduler", *["worker"] * N_PROCESSES)
        ]
        address = f"tcp://127.0.0.1:{port}"
        pool = stack.enter_context(make_executor(address, session.words, print, n_lanes))
        pool.start()
        deadline = time.monotonic() + START_S
        while pool.n_slots() < slots:
            if time.monotonic() > deadline:
                raise SystemExit((folder / "cluster.txt").read_text("utf-8"))
            time.sleep(0.1)
        answer, ordered = partial(sleep, scale, vocab_size), not arguments.independent
        coordinator = stack.enter_context(
            coordinate(job, pool, answer, slots, n_lanes if ordered else None)
        )
        views: list[View] = []
        if not arguments.no_views:
            uri = session.tracking_uri
            views = [job.view(), make_tracker(session.workspace, job.journal, session.file, uri)]
        idle = coordinator.idle
        uploaders = [Uploader(view, job.journal, print, idle=idle) for view in views]
        for uploader in uploaders:
            stack.callback(uploader.stop)
            uploader.start()
            if error := uploader.wait_until_open(START_S):
                raise error
        coordinator.observers += tuple(uploaders)
        for part, names in CALLS.items():
            for name in names:
                time_calls(getattr(coordinator, part), name, wall)
        window = Window(coordinator, *sizes, mark)
        window.run()
        ended = time.perf_counter()
        for uploader in uploaders:
            uploader.close(None)
        behind_s = time.perf_counter() - ended
    before, after = window.marks
    spent = {name: after[name] - before[name] for name in after}
    window_s, machine_s = spent.pop("window"), spent.pop("machine")
    ours_s = sum(seconds for name, seconds in spent.items() if not name.endswith("wall"))
    return {
        "segments/s": window.n_inside / window_s,
        "utilisation, %": 100 * window.wall_s / (slots * window_s),
        "mean sleep, s": window.wall_s / window.n_inside,
        **{f"{name}, ms": 1e3 * seconds / window.n_inside for name, seconds in spent.items()},
        "our cores": ours_s / window_s,
        "neighbours' cores": max(0.0, machine_s - ours_s) / window_s,
        "views behind, s": behind_s,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[16, 32, 64, 100, 200, 400])
    parser.add_argument("--segments", type=int, default=1000, help="of a window")
    parser.add_argument("--mean-s", type=float, default=0.5, help="expected sleep of a segment")
    parser.add_argument("--lanes", type=int, default=1, help="trials at once a slot")
    parser.add_argument("--no-views", action="store_true", help="without Optuna's storage, MLflow")
    parser.add_argument("--independent", action="store_true", help="without an order of decisions")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    if any(slots < 1 or slots % N_PROCESSES for slots in arguments.slots):
        parser.error(f"--slots must be multiples of {N_PROCESSES}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    load = " ".join(f"{each:.2f}" for each in os.getloadavg())
    found: dict[int, list[dict[str, float]]] = {slots: [] for slots in arguments.slots}
    for _ in range(arguments.repeats):
        for slots in arguments.slots:
            with tempfile.TemporaryDirectory() as scratch:
                found[slots].append(once(Path(scratch), arguments, slots))
    figures = {slots: spreads(runs) for slots, runs in found.items()}
    rows = [
        {"slots": name, **{f"{n}": f"{its[name]['median']:.2f}" for n, its in figures.items()}}
        for name in found[arguments.slots[0]][0]
    ]
    title = (
        f"windows of {arguments.segments} segments, medians of {arguments.repeats} turns\n"
        f"coordinator, scheduler and {N_PROCESSES} worker processes share {os.cpu_count()} cores; "
        f"load average at start: {load}"
    )
    report("cluster", title, rows, {"settings": vars(arguments), "load": load, "slots": figures})


if __name__ == "__main__":
    main()
