"""What a search costs besides training: the share of a run that neither trains nor evaluates.

    python bench/overhead.py --trials 10 --steps 4000 --repeats 1

`mmsearch run` is started in a new workspace, with one worker less than the machine has cores, so
that a segment need not wait for a core and its seconds are processor time. Two shares are overhead:

- **of processor time**: 1 - (seconds in segments) / (processor time of all processes). It contains
  imports, Optuna, MLflow, figures and the journal, and no waiting.
- **of worker time**: 1 - (seconds in segments) / (workers x seconds from Enter to the prompt). It
  contains waiting, too, and is divided into what comes before the first segment, what comes after
  the last one, and idle workers between them.

Needs Linux.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from report import MMSEARCH, environment, report, shown, timed

from mmsearch.tracking.journal.journal import Journal

GOAL, IDLE_GOAL = 0.10, 0.05


def search(words: Sequence[str], folder: Path, env: Mapping[str, str]) -> dict[str, float]:
    """Search in a new workspace; returns seconds."""
    began = time.time()
    command = [MMSEARCH, "run", "--workspace", str(folder), *words]
    spent = timed(command, env, folder.with_suffix(".txt"))
    lines = [line for record in Journal(folder / "names").records() for line in record.curve]
    return {
        **spent,
        "in segments": sum(line.wall_s for line in lines),
        "before the first": min(line.ended_ms / 1e3 - line.wall_s for line in lines) - began,
        "after the last": began + spent["whole_s"] - max(line.ended_ms for line in lines) / 1e3,
        "segments": len(lines),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", default="50")
    parser.add_argument("--steps", help="of each trial; the default's if left out")
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    words = ["--trials", arguments.trials, "--workers", str(arguments.workers)]
    words += ["--steps", arguments.steps] if arguments.steps else []
    with tempfile.TemporaryDirectory() as scratch:
        env = environment(Path(scratch))
        # The first start of all compiles and lists fonts.
        search(["--trials", "1", "--steps", "100"], Path(scratch) / "warm", env)
        runs = [search(words, Path(scratch) / f"{n}", env) for n in range(arguments.repeats)]
    for run in runs:
        run["workers"] = arguments.workers * run["whole_s"]
        between = run["whole_s"] - run["before the first"] - run["after the last"]
        run["idle"] = 1 - run["in segments"] / (arguments.workers * between)
    shares = {
        f"overhead, of processor time (goal {GOAL:.0%})": [
            1 - run["in segments"] / run["processor_s"] for run in runs
        ],
        f"overhead, of worker time (goal {GOAL:.0%})": [
            1 - run["in segments"] / run["workers"] for run in runs
        ],
        "before the first segment": [run["before the first"] / run["whole_s"] for run in runs],
        "after the last one": [run["after the last"] / run["whole_s"] for run in runs],
        f"workers idle between them (goal {IDLE_GOAL:.0%})": [run["idle"] for run in runs],
    }
    rows = [{"what": what, "share": shown(values, ".1%")} for what, values in shares.items()]
    typical = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    title = (
        f"{arguments.trials} trials, {arguments.workers} workers: {typical['segments']:.0f} "
        f"segments in {typical['whole_s']:.1f} s; {arguments.repeats} runs\n"
        f"neighbours on the machine had {typical['neighbours']:.2f} cores meanwhile"
    )
    report("overhead", title, rows, {"shares": shares, "runs": runs})


if __name__ == "__main__":
    main()
