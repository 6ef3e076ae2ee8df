"""Compare whole searches: samplers, pruners and budgets, with several seeds each.

    python bench/defaults.py words.txt [--group pruners] [--seeds 3] [--figure FILE.png]

Each search is `mmsearch run` as a user types it, with the article's protocol (repeated words kept),
50 trials and two workers, in a workspace of its own. Counted are its wall time, the best dev loss
of a finished trial, and the best dev loss of any evaluation against the seconds since the command
was started. Searches take turns by seed, so that a busy hour meets them all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import RESULTS, report, spread

from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUPS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "default": {"the default": ()},
    "pruners": {
        f"{pruner} pruner": ("--pruner", pruner)
        for pruner in ("none", "median", "halving", "hyperband")
    },
    "samplers": {
        f"{sampler} sampler": ("--sampler", sampler, "--pruner", "median")
        for sampler in ("tpe", "gp", "random")
    },
    "steps": {f"{steps:,} steps": ("--steps", f"{steps}") for steps in (30_000, 60_000)},
}
"""What is compared: names and the flags that differ from the default."""
HYPERPARAMETERS = (
    "embedding_dim",
    "hidden_width",
    "block_size",
    "learning_rate",
    "weight_decay",
    "context_noise",
)


def search(
    flags: Sequence[str], corpus: Path, trials: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Run one search; what came of it."""
    command: list[str | Path] = [
        Path(sys.executable).with_name("mmsearch"), "run", "--corpus", corpus, "--keep-duplicates",
        "--trials", f"{trials}", "--workers", "2", "--seed", f"{seed}", "--workspace", folder,
        "--study", "study", *flags,
    ]  # fmt: skip
    begun_ms, begun = time.time_ns() // 1_000_000, time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wall_s = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    records = Journal(folder / "study").records()
    looks = sorted((line.ended_ms, line.dev_loss) for record in records for line in record.curve)
    curve: list[tuple[float, float]] = []
    for ended_ms, dev_loss in looks:
        if not curve or dev_loss < curve[-1][1]:
            curve.append(((ended_ms - begun_ms) / 1000, dev_loss))
    complete = [r for r in records if r.is_complete and r.dev_loss is not None]
    best = min(complete, key=lambda record: record.dev_loss or 0.0)
    return {
        "seed": seed,
        "wall_s": wall_s,
        "best": best.dev_loss,
        "hyperparameters": {name: getattr(best.spec, name) for name in HYPERPARAMETERS},
        "n_complete": len(complete),
        "n_trials": len(records),
        "trained_s": sum(line.wall_s for record in records for line in record.curve),
        "curve": curve,
    }


def row(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Sum the seeds of one search up."""
    best = spread([run["best"] for run in runs])
    wall = spread([run["wall_s"] for run in runs])
    return {
        "search": name,
        "best dev, median": f"{best['median']:.4f}",
        "range": f"{best['low']:.4f} to {best['high']:.4f}",
        "wall s": f"{wall['median']:.0f}",
        "complete": "/".join(str(run["n_complete"]) for run in runs),
    }


def draw(results: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw the best dev loss so far against time: a panel a group, the median of the seeds."""
    import numpy as np  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import NullFormatter, ScalarFormatter  # noqa: PLC0415

    from mmsearch.tracking.figures import style  # noqa: PLC0415

    groups = [
        present
        for names in GROUPS.values()
        if (present := [name for name in names if name in results])
    ]
    end = max(run["wall_s"] for runs in results.values() for run in runs)
    low = min(run["best"] for runs in results.values() for run in runs)
    seconds = np.geomspace(3, end, 400)

    @style.styled
    def figure() -> Figure:
        drawn = Figure(figsize=(3.6 * len(groups), 3.4), layout="constrained")
        panels = drawn.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for axes, names in zip(panels, groups, strict=True):
            for name in names:
                lines = []
                for run in results[name]:
                    times, losses = map(np.array, zip(*run["curve"], strict=True))
                    place = np.searchsorted(times, seconds, side="right") - 1
                    lines.append(np.where(place < 0, np.nan, losses[np.maximum(place, 0)]))
                middle = np.median(np.array(lines), axis=0)
                middle[seconds > statistics.median(run["wall_s"] for run in results[name])] = np.nan
                axes.plot(seconds, middle, label=name)
            axes.set_xscale("log")
            axes.set_xticks([3, 10, 30, 100])
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("seconds since the command was typed")
            axes.set_ylim(low - 0.005, low + 0.14)
            axes.legend()
        panels[0].set_ylabel("lowest dev loss so far, nats per character")
        return drawn

    figure().savefig(path, dpi=150)


def main() -> None:
    """Search, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--group", action="append", choices=list(GROUPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--flags", default="", help="flags for every search")
    parser.add_argument("--name", default="defaults", help="of the JSON file")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--redraw", type=Path, help="a JSON file to draw, and nothing to search")
    arguments = parser.parse_args()
    if arguments.redraw:
        draw(json.loads(arguments.redraw.read_text("utf-8"))["searches"], arguments.figure)
        return
    searches = {
        name: [*arguments.flags.split(), *flags]
        for group in arguments.group or GROUPS
        for name, flags in GROUPS[group].items()
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in searches}
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for seed in range(arguments.seeds):
        for name, flags in searches.items():
            with tempfile.TemporaryDirectory() as folder:
                done = search(flags, arguments.corpus, arguments.trials, seed, Path(folder))
            results[name].append(done)
            print(
                f"{name}, seed {seed}: {done['best']:.4f} in {done['wall_s']:.0f} s",
                json.dumps(done["hyperparameters"]),
                flush=True,
            )
    title = f"{arguments.trials} trials, {arguments.seeds} seeds each"
    report(arguments.name, title, [row(*item) for item in results.items()], {"searches": results})
    if arguments.figure:
        draw(results, arguments.figure)
        print(f"drawn: {arguments.figure}, from {RESULTS / arguments.name}.json")


if __name__ == "__main__":
    main()
