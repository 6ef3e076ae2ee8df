"""What a search costs besides training: the share of a run that neither trains nor evaluates.

    python bench/overhead.py --trials 10 --steps 4000 --repeats 1

`mmsearch run` is started in a new workspace. Three sources are read: the journal (when each segment
ended, and its `wall_s`), the processor clock of each process, every `SAMPLE_S` from outside, and
the operating system's account of all processes after their end. Two shares are overhead:

- **of processor time**: 1 - (processor time in segments) / (processor time of all processes). It
  contains imports, Optuna, MLflow, figures and the journal, and no waiting.
- **of core time**: 1 - (processor time in segments) / (workers x seconds from Enter to the
  prompt). It contains waiting, too: for the next segment, for MLflow, for a core.

Processor time in segments is what the workers' clocks gained while the journal has segments
running, at most the segments' own seconds within a sample. `wall_s` is not taken for it, since it
contains waiting for a core.

Core time is divided into: training and evaluating; segments without a core (their `wall_s` less
that); idle while there was work; idle at the end, with fewer trials left than workers; before the
first segment; after the last one. "Workers idle" is both idle rows, of the time between the first
segment's beginning and the last one's end. Needs Linux, whose numbers of processor clocks it uses.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from report import MMSEARCH, busy_s, environment, report, spread

from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mmsearch.tracking.journal.records import TrialRecord

SAMPLE_S = 0.05
GOAL, IDLE_GOAL = 0.10, 0.05


def process_clock(pid: int) -> int:
    """Return Linux's number of a process's processor clock."""
    return (~pid << 3) | 2


def read_clock(number: int) -> float | None:
    """Read a clock, in seconds; None after the end of its process."""
    try:
        return time.clock_gettime_ns(number) / 1e9
    except OSError:
        return None


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
    """Processor clocks of a command's processes."""

    began: float
    """Unix time of its start, as the journal's times are."""
    ended: float = 0.0
    total_s: float = 0.0
    """Processor time of all its processes."""
    coordinator_s: float = 0.0
    others_s: float = 0.0
    neighbours_s: float = 0.0
    """Processor time of other programs on the machine meanwhile."""
    samples: list[tuple[float, float]] = field(default_factory=list)
    """Unix time, and processor time of all workers until then."""


def watch(words: Sequence[str], env: Mapping[str, str]) -> Watch:
    """Run a command to its end and read its processes' clocks meanwhile."""
    before, busy = resource.getrusage(resource.RUSAGE_CHILDREN), busy_s()
    seen = Watch(began=time.time())
    clocks: dict[int, float] = {}
    workers: dict[int, bool] = {}
    with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL) as process:  # noqa: S603 (our words)
        while process.poll() is None:
            for pid in descendants(process.pid):
                # Between fork and exec a child still has the command line of its parent.
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
    seen.neighbours_s = busy_s() - busy - seen.total_s
    seen.others_s = sum(clocks[pid] for pid in clocks if not workers[pid])
    seen.coordinator_s = seen.total_s - seen.others_s - seen.samples[-1][1]
    return seen


def segments_of(records: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    """Return the beginning and end of each segment, in Unix time."""
    lines = [line for record in records for line in record.curve]
    return [(line.ended_ms / 1000 - line.wall_s, line.ended_ms / 1000) for line in lines]


def in_segments(seen: Watch, segments: Sequence[tuple[float, float]]) -> float:
    """Return the workers' processor time while segments ran."""
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
    """Return the arguments of `mmsearch`."""
    words = ["run", "--workspace", str(workspace), "--workers", str(arguments.workers)]
    words += ["--trials", str(arguments.trials)]
    return words if arguments.steps is None else [*words, "--steps", str(arguments.steps)]


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
    core = {key: spread([run[key] / run["core"] for run in runs]) for key in LABELS}
    processor = {key: spread([run[key] / run["processor"] for run in runs]) for key in LABELS}
    idle = spread([(run["idle, work"] + run["idle, end"]) / run["window"] for run in runs])
    rows = [
        {
            "what": label,
            "seconds": f"{spread([run[key] for run in runs])['median']:.2f}",
            "of core time": f"{core[key]['median']:.1%}" if n < N_CORE else "",
            "of processor time": "" if 0 < n < N_CORE else f"{processor[key]['median']:.1%}",
        }
        for n, (key, label) in enumerate(LABELS.items())
    ]
    overheads = (core["training"]["median"], processor["training"]["median"])
    for label, core_share, processor_share in (
        (f"= overhead (goal {GOAL:.0%})", *(f"{1 - share:.1%}" for share in overheads)),
        (f"= workers idle (goal {IDLE_GOAL:.0%})", f"{idle['median']:.1%}", ""),
    ):
        shares = {"of core time": core_share, "of processor time": processor_share}
        rows.append({"what": label, "seconds": "", **shares})
    figures = {"core": core, "processor": processor, "idle": idle, "runs": list(runs)}
    report("overhead", title, rows, figures)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--steps", type=int, help="SGD steps of each trial; the default's if left")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
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


if __name__ == "__main__":
    main()
