"""What a search loses while MLflow is away: with it up, down and hanging, in turns.

    python bench/outage.py --trials 30 --repeats 5

`mmsearch run` is started in a new workspace with the URI of a server that answers (up), of a port
without a server (down), and of a stopped server that takes calls and answers none (hanging). All
three train the same trials. Two times are known from the journal: the **search**, from the first
segment's beginning to the last trial's end, which an outage should not lengthen; and the **end**,
from there to the prompt, when the rest is uploaded or given up.
"""

import argparse
import contextlib
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from report import MMSEARCH, environment, free_port, options, report, shown, timed

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.mlflow.server import serve

GOAL = 0.05
CONFIG = '[search]\nsampler = "random"\npruner = "none"\n'
ARMS = ("up", "down", "hanging")
LACKS = "mmsearch sync"


@contextlib.contextmanager
def tracking(arm: str, folder: Path) -> Iterator[str]:
    """Return the URI of a server in the state that an arm names."""
    port = free_port()
    if arm == "down":
        yield f"http://127.0.0.1:{port}"
        return
    store = f"sqlite:///{folder}/mlflow.db"
    with serve(store, folder / "artifacts", log_folder=folder, port=port) as server:
        if arm == "hanging":
            os.killpg(server.process.pid, signal.SIGSTOP)
        try:
            yield server.base
        finally:
            os.killpg(server.process.pid, signal.SIGCONT)


def search(arm: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one search; returns its two times."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    words = [MMSEARCH, "run", "--study", arm, "--config", str(config)]
    words += ["--workspace", str(folder / "runs")]
    words += ["--trials", str(arguments.trials), "--steps", str(arguments.steps)]
    with tracking(arm, folder) as uri:
        output = folder / "output.txt"
        timed([*words, "--tracking-uri", uri], environment(folder.parent), output)
        ended = time.time()
    if (LACKS in output.read_text("utf-8")) != (arm != "up"):
        raise SystemExit(f"{arm}: MLflow was not as it should have been:\n{output.read_text()}")
    records = Journal(folder / "runs" / arm).records()
    last = max(record.outcome.ended_ms for record in records if record.outcome) / 1000
    first = min(record.curve[0].ended_ms / 1000 - record.curve[0].wall_s for record in records)
    return {"search": last - first, "end": ended - last}


def show(turns: list[dict[str, dict[str, float]]]) -> None:
    """Print medians over turns, and the ratio to `up` of each turn."""
    rows, ratios = [], {}
    for arm in ARMS:
        ratios[arm] = [turn[arm]["search"] / turn["up"]["search"] for turn in turns]
        rows.append(
            {
                "MLflow": arm,
                "search, s": shown([turn[arm]["search"] for turn in turns], ".2f"),
                "of that with it up": shown(ratios[arm], ".3f"),
                "end, s": shown([turn[arm]["end"] for turn in turns], ".1f"),
            }
        )
    title = f"a search with MLflow up, down and hanging; medians of {len(turns)} turns"
    report("outage", title, rows, {"turns": turns})
    worst = max(statistics.median(ratios[arm]) for arm in ARMS) - 1
    print(f"an outage costs a search {worst:+.1%}; the goal is at most {GOAL:.0%}")


def main() -> None:
    """Print the table."""
    arguments = options(__doc__, trials=10, steps=6000, repeats=3)
    turns = []
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(arguments.repeats):
            times = {}
            for arm in ARMS:
                folder = Path(scratch) / f"{turn}-{arm}"
                folder.mkdir()
                times[arm] = search(arm, folder, arguments)
                print(f"turn {turn + 1}, {arm}: {times[arm]}", flush=True)
            turns.append(times)
    show(turns)


if __name__ == "__main__":
    main()
