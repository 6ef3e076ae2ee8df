"""The default search: its dev loss and wall time, with several seeds.

    python bench/defaults.py words.txt [--seeds 3] [--figure FILE.png]

Each search is `mmsearch run` with the article's protocol (repeated words kept), 50 trials and two
workers, in a new workspace. The table has the wall time and the best dev loss of a finished trial;
the figure has the best dev loss so far against time.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from report import MMSEARCH, environment, report, shown, timed

from mmsearch.tracking.figures.style import styled
from mmsearch.tracking.journal.journal import Journal


def search(
    flags: Sequence[str], corpus: Path, trials: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Run one search; returns its scores and times."""
    words = ["run", "--corpus", str(corpus), "--keep-duplicates", "--trials", str(trials)]
    words += ["--workers", "2", "--seed", str(seed), "--workspace", str(folder / "runs")]
    began = time.time()
    command = [MMSEARCH, *words, "--study", "study", *flags]
    wall_s = timed(command, environment(folder), folder / "output.txt")["whole_s"]
    records = Journal(folder / "runs" / "study").records()
    looks = sorted((line.ended_ms, line.dev_loss) for record in records for line in record.curve)
    curve: list[tuple[float, float]] = []
    for ended_ms, dev_loss in looks:
        if not curve or dev_loss < curve[-1][1]:
            curve.append((ended_ms / 1000 - began, dev_loss))
    complete = [r.dev_loss for r in records if r.is_complete and r.dev_loss is not None]
    return {
        "seed": seed,
        "wall_s": wall_s,
        "best": min(complete),
        "n_complete": len(complete),
        "n_trials": len(records),
        "trained_s": sum(line.wall_s for record in records for line in record.curve),
        "curve": curve,
    }


@styled
def draw(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the best dev loss so far against time, a line for each seed."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        axes.step(*zip(*run["curve"], strict=True), where="post", label=f"seed {run['seed']}")
    axes.set_xscale("log")
    axes.set_xlabel("seconds since the command was typed")
    axes.set_ylabel("lowest dev loss so far, nats per character")
    axes.legend()
    return figure


def main() -> None:
    """Search, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--flags", default="", help="more options of `mmsearch run`")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    runs = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            flags = arguments.flags.split()
            runs.append(search(flags, arguments.corpus, arguments.trials, seed, Path(folder)))
        print(f"seed {seed}: {runs[-1]['best']:.4f} in {runs[-1]['wall_s']:.0f} s", flush=True)
    row = {
        "best dev": shown([run["best"] for run in runs], ".4f"),
        "wall s": shown([run["wall_s"] for run in runs], ".0f"),
        "complete": "/".join(str(run["n_complete"]) for run in runs),
    }
    title = f"{arguments.trials} trials, {arguments.seeds} seeds"
    report("defaults", title, [row], {"searches": runs})
    if arguments.figure:
        draw(runs).savefig(arguments.figure, dpi=150)


if __name__ == "__main__":
    main()
