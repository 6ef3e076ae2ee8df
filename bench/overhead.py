"""What a search costs besides training: the share of a run that neither trains nor evaluates.

    python bench/overhead.py
    python bench/overhead.py --trials 10 --steps 4000 --repeats 1
    python bench/overhead.py --profile --trials 10

`mmsearch run` is started as a person would start it, in a new workspace, and left alone to its
end. What it did is known from three sources: the journal (when each segment ended, and its
`wall_s` of training and evaluating), the processor clock of each of its processes, read every
`SAMPLE_S` from outside, and the operating system's account of all of them after they have ended.

Two shares are overhead, and both are printed:

- **of processor time**: 1 - (processor time in segments) / (processor time of the command and
  all its children). Whatever the command computes besides its segments is in it: imports, Optuna,
  MLflow, figures, the journal, what a worker does between two segments. Waiting is not in it.
- **of core time**: 1 - (processor time in segments) / (workers x seconds from Enter to the
  prompt). Waiting is in it, too: for the start, for the next segment, for the last trial, for
  MLflow to catch up, and for a core that another process has.

Processor time in segments is what the workers' clocks gained while the journal has segments
running; in a slice between two samples it is at most the segments' own seconds within the slice.
A worker that still starts, while another trains and waits for a core, can so pass for training;
that is some tens of milliseconds. `wall_s` itself is not taken for it: where the coordinator and
two workers share two cores, a segment's seconds contain waiting, and would hide what it waits for.

Core time is a partition, worker by worker, and its rows add up to 1:

    training, evaluating     processor time in segments
    segments without a core  their `wall_s` less that: the coordinator, or a neighbour, had the core
    idle while there was work  between the first segment's beginning and the last one's end
    idle at the end          of which: fewer trials left than workers; from a worker's last segment
    before the first segment  from Enter, on all workers
    after the last segment   to the prompt, on all workers

Workers idle, the figure with a goal, is 1 - sum(`wall_s`) / (workers x (the last segment's end -
the first one's beginning)): both idle rows together.

Processor time is a partition, too: in segments; workers outside of them (imports, examples,
checkpoints, samples, pipes); the coordinator; other processes (git, multiprocessing's tracker).

`--profile` runs the command once more and says where the coordinator's processor time goes, by
thread: a thread of ours looks at the stacks every `PROFILE_S` and gives each thread's processor
time since the last look to every function of the project on its stack (cumulative, so they
overlap) and to the innermost package that it knows (disjoint). The looking is itself in the list.

Needs Linux: other processes' clocks are read as it numbers them.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from mmsearch.tracking.journal.records import TrialRecord

MMSEARCH = str(Path(sys.executable).with_name("mmsearch"))
SAMPLE_S = 0.05
PROFILE_S = 0.005
N_SHOWN = 15
GOAL, IDLE_GOAL = 0.10, 0.05
PACKAGES = (
    *("mlflow", "optuna", "matplotlib", "sqlalchemy", "alembic", "rich", "torch", "numpy"),
    *("multiprocessing", "concurrent", "mmsearch"),
)
"""What processor time is told apart by; sqlalchemy counts as whoever calls it, and what a thread
does to load a module as `import`."""


def process_clock(pid: int) -> int:
    """Give Linux's number of a process's clock of processor time."""
    return (~pid << 3) | 2


def thread_clock(thread: int) -> int:
    """Likewise of a thread of this process."""
    return (~thread << 3) | 6


def read_clock(number: int) -> float | None:
    """Read a clock, in seconds; None where what it counts for has ended."""
    try:
        return time.clock_gettime_ns(number) / 1e9
    except OSError:
        return None


def machine_clock() -> float:
    """Read what all cores together have worked, in seconds."""
    row = Path("/proc/stat").read_text("utf-8").splitlines()[0]
    user, nice, system, _idle, _wait, *interrupts = map(int, row.split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Find the processes that a process and its children have started."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in path.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def is_worker(pid: int) -> bool:
    """Whether a child of the command trains: Python's own, but for the tracker of resources."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"multiprocessing" in command and b"resource_tracker" not in command


@dataclass(slots=True)
class Watch:
    """What the clocks of a command's processes said."""

    began: float
    """Unix time of its start, as the journal's times are."""
    ended: float = 0.0
    total_s: float = 0.0
    """Processor time of all its processes."""
    coordinator_s: float = 0.0
    others_s: float = 0.0
    neighbours_s: float = 0.0
    """Processor time of everybody else on the machine meanwhile."""
    samples: list[tuple[float, float]] = field(default_factory=list)
    """Unix time, and processor time of all workers until then."""


def watch(words: Sequence[str], env: Mapping[str, str]) -> Watch:
    """Run a command to its end and read its processes' clocks meanwhile."""
    before, busy_s = resource.getrusage(resource.RUSAGE_CHILDREN), machine_clock()
    seen = Watch(began=time.time())
    clocks: dict[int, float] = {}
    workers: dict[int, bool] = {}
    with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL) as process:  # noqa: S603 (our words)
        while process.poll() is None:
            for pid in descendants(process.pid):
                # A child is its parent's copy until it has become what it is started for.
                if not workers.get(pid):
                    workers[pid] = is_worker(pid)
                clocks[pid] = read_clock(process_clock(pid)) or clocks.get(pid, 0.0)
            now_s = sum(clocks[pid] for pid in clocks if workers[pid])
            seen.samples.append((time.time(), now_s))
            time.sleep(SAMPLE_S)
    seen.ended = time.time()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen.total_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seen.neighbours_s = machine_clock() - busy_s - seen.total_s
    seen.others_s = sum(clocks[pid] for pid in clocks if not workers[pid])
    seen.coordinator_s = seen.total_s - seen.others_s - seen.samples[-1][1]
    return seen


def segments_of(records: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    """Give the beginning and the end of each segment, in Unix time."""
    lines = [line for record in records for line in record.curve]
    return [(line.ended_ms / 1000 - line.wall_s, line.ended_ms / 1000) for line in lines]


def in_segments(seen: Watch, segments: Sequence[tuple[float, float]]) -> float:
    """Give the workers' processor time while segments ran."""
    spent = 0.0
    for (start, before_s), (end, after_s) in itertools.pairwise(seen.samples):
        running = sum(max(0.0, min(end, e) - max(start, b)) for b, e in segments)
        spent += min(after_s - before_s, running)
    return spent


def account(seen: Watch, records: Sequence[TrialRecord], n_workers: int) -> dict[str, float]:
    """Divide a run's core time and processor time into what they went to, in seconds."""
    segments = segments_of(records)
    wall_s = sum(line.wall_s for record in records for line in record.curve)
    first, last = min(b for b, _ in segments), max(e for _, e in segments)
    training_s = in_segments(seen, segments)
    # The last n trials to end are the workers' last ones.
    ends = sorted(record.curve[-1].ended_ms / 1000 for record in records if record.curve)
    tail_s = sum(last - end for end in ends[-n_workers:])
    return {
        "seconds": seen.ended - seen.began,
        "core": n_workers * (seen.ended - seen.began),
        "window": n_workers * (last - first),
        "training": training_s,
        "no core": wall_s - training_s,
        "idle, work": n_workers * (last - first) - wall_s - tail_s,
        "idle, end": tail_s,
        "before": n_workers * (first - seen.began),
        "after": n_workers * (seen.ended - last),
        "processor": seen.total_s,
        "workers besides": seen.samples[-1][1] - training_s,
        "coordinator": seen.coordinator_s,
        "others": seen.others_s,
        "neighbours": seen.neighbours_s / (seen.ended - seen.began),
        "segments": len(segments),
    }


def command(workspace: Path, arguments: argparse.Namespace) -> list[str]:
    """Give the words after `mmsearch`."""
    words = ["run", "--workspace", str(workspace), "--workers", str(arguments.workers)]
    words += ["--trials", str(arguments.trials)]
    return words if arguments.steps is None else [*words, "--steps", str(arguments.steps)]


def environment(home: Path) -> dict[str, str]:
    """Give the environment of a person who has set nothing."""
    dropped = ("MLFLOW_", "MMSEARCH_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "HOME": str(home), "COLUMNS": "80", "MPLCONFIGDIR": str(home / "matplotlib")}


class Profile:
    """Where this process's processor time goes, by thread: to functions and to packages."""

    def __init__(self) -> None:
        self.packages: dict[tuple[str, str], float] = collections.defaultdict(float)
        self.functions: dict[tuple[str, str], float] = collections.defaultdict(float)
        self._before: dict[int, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="profile", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def write(self, path: Path) -> None:
        """End, and write what was seen."""
        self._is_over.set()
        self._thread.join()
        found = {"packages": self.packages, "functions": self.functions}
        values = {name: [[*key, s] for key, s in each.items()] for name, each in found.items()}
        path.write_text(json.dumps(values), "utf-8")

    def _work(self) -> None:
        while not self._is_over.wait(PROFILE_S):
            frames = sys._current_frames()  # noqa: SLF001 (no other way to see other threads)
            for thread in threading.enumerate():
                now = read_clock(thread_clock(thread.native_id or 0))
                frame = frames.get(thread.ident or 0)
                if now is None or frame is None:
                    continue
                spent = now - self._before.get(thread.native_id or 0, 0.0)
                self._before[thread.native_id or 0] = now
                self._add(thread.name, frame, spent)

    def _add(self, thread: str, innermost: FrameType, spent: float) -> None:
        names, package, is_import = set(), "", False
        frame: FrameType | None = innermost
        while frame is not None:
            path = frame.f_code.co_filename.rpartition("site-packages/")[2]
            parts = path.removesuffix(".py").split("/")
            known = next((part for part in reversed(parts[:-1]) if part in PACKAGES), "")
            if known and package in {"", "sqlalchemy"}:
                package = known
            is_import |= path.startswith("<frozen importlib")
            if parts[-3:-2] == ["mmsearch"]:
                names.add(f"{parts[-2]}/{parts[-1]}: {frame.f_code.co_qualname}")
            frame = frame.f_back
        package = package or "Python"
        self.packages[thread, f"import {package}" if is_import else package] += spent
        for name in names:
            self.functions[thread, name] += spent


def profiled(path: str, words: Sequence[str]) -> None:
    """Be the command, and write a profile of it."""
    profile = Profile()
    profile.start()
    sys.argv = [MMSEARCH, *words]
    try:
        runpy.run_path(MMSEARCH, run_name="__main__")
    finally:
        profile.write(Path(path))


def print_profile(path: Path) -> None:
    """Print what a profile saw: packages by thread, then the functions that took most."""
    found = json.loads(path.read_text("utf-8"))
    for name, title in (("packages", "disjoint"), ("functions", "cumulative")):
        print(f"\nprocessor time of the coordinator by thread and {name}, {title}:")
        ranked = sorted(found[name], key=lambda row: -row[2])
        for thread in dict.fromkeys(row[0] for row in ranked):
            own = [row for row in ranked if row[0] == thread and row[2] >= PROFILE_S]
            for _, what, seconds in own[:N_SHOWN]:
                print(f"  {seconds:7.2f} s  {thread:<14} {what}")


LABELS = {
    "training": "training, evaluating",
    "no core": "segments without a core",
    "idle, work": "idle while there was work",
    "idle, end": "idle at the end",
    "before": "before the first segment",
    "after": "after the last segment",
    "workers besides": "workers, outside segments",
    "coordinator": "coordinator",
    "others": "other processes",
}
N_CORE = 6
"""Rows above that divide core time; the first one and those after them divide processor time."""


def show(runs: Sequence[Mapping[str, float]], title: str) -> None:
    """Print the table, medians over runs."""
    # Here and not above: --profile must find nothing loaded that a command has to load itself.
    from report import report, spread  # noqa: PLC0415

    core = {key: spread([run[key] / run["core"] for run in runs]) for key in LABELS}
    processor = {key: spread([run[key] / run["processor"] for run in runs]) for key in LABELS}
    idle = spread([(run["idle, work"] + run["idle, end"]) / run["window"] for run in runs])
    rows = []
    for n, (key, label) in enumerate(LABELS.items()):
        rows.append(
            {
                "what": label,
                "seconds": f"{spread([run[key] for run in runs])['median']:.2f}",
                "of core time": f"{core[key]['median']:.1%}" if n < N_CORE else "",
                "of processor time": f"{processor[key]['median']:.1%}"
                if not 0 < n < N_CORE
                else "",
                "goal": "",
            }
        )
    rows += [
        {
            "what": "= overhead",
            "seconds": "",
            "of core time": f"{1 - core['training']['median']:.1%}",
            "of processor time": f"{1 - processor['training']['median']:.1%}",
            "goal": f"{GOAL:.0%}",
        },
        {
            "what": "= workers idle",
            "seconds": "",
            "of core time": f"{idle['median']:.1%}",
            "of processor time": "",
            "goal": f"{IDLE_GOAL:.0%}",
        },
    ]
    figures = {"core": core, "processor": processor, "idle": idle, "runs": list(runs)}
    report("overhead", title, rows, figures)


def main() -> None:
    """Print the table, and the profile if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--steps", type=int, help="SGD steps of each trial; the default's if left")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="say where the coordinator's goes")
    arguments = parser.parse_args()
    from mmsearch.tracking.journal.journal import Journal  # noqa: PLC0415 (as in show)

    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        env = environment(home)
        # The first start of all compiles and lists fonts.
        warm = ["run", "--trials", "1", "--steps", "100", "--workspace", str(home / "warm")]
        watch([MMSEARCH, *warm], env)
        runs = []
        for n in range(arguments.repeats):
            folder = home / f"runs-{n}"
            seen = watch([MMSEARCH, *command(folder, arguments)], env)
            runs.append(account(seen, Journal(folder / "names").records(), arguments.workers))
        typical = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        show(
            runs,
            f"{arguments.trials} trials, {arguments.workers} workers: {typical['segments']:.0f} "
            f"segments in {typical['seconds']:.1f} s; medians of {arguments.repeats} runs\n"
            f"neighbours on the machine had {typical['neighbours']:.2f} cores meanwhile",
        )
        if arguments.profile:
            # Not this file as the main module: workers would load it, too.
            code = "import sys, overhead; overhead.profiled(sys.argv[1], sys.argv[2:])"
            words = [str(home / "profile.json"), *command(home / "profiled", arguments)]
            path = os.pathsep.join([str(Path(__file__).parent), env.get("PYTHONPATH", "")])
            watch([sys.executable, "-c", code, *words], {**env, "PYTHONPATH": path})
            print_profile(home / "profile.json")


if __name__ == "__main__":
    main()
