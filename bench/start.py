"""How soon `mmsearch` answers: `--help`, and the first segment running, against `import torch`.

    python bench/start.py --repeats 9

In each turn these run one after another, each in a process of its own: `import torch`, which is the
yardstick; `import mmsearch`; `mmsearch --help`; `mmsearch run` in a new workspace; the same line
again with two more trials, when the databases exist; and once more with nothing left to train.

A `run` is timed to its first segment and to its end. The first segment begins when its line in the
journal was written, less the seconds that the worker trained and scored; what the worker does
before (importing torch, building examples) counts. Ratios are taken within a turn, and medians are
printed. A first turn, which compiles byte code and lists fonts, is left out.
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from report import MMSEARCH, environment, options, report, shown, timed

from mmsearch.tracking.journal.journal import Journal

N_TRIALS = 2
YARDSTICK = "import torch"


def first_segment(journal: Journal, began: float) -> float:
    """Return the seconds from `began` to the beginning of the first segment after it."""
    beginnings = [
        line.ended_ms / 1000 - line.wall_s
        for record in journal.records()
        for line in record.curve
        if line.ended_ms / 1000 > began
    ]
    return min(beginnings) - began


def turn(folder: Path, env: Mapping[str, str], steps: int) -> dict[str, float]:
    """Time each thing once."""

    def whole_s(*words: str) -> float:
        return timed(words, env, folder.with_suffix(".txt"))["whole_s"]

    run = [MMSEARCH, "run", "--study", "names", "--steps", str(steps), "--workspace", str(folder)]
    times = {
        YARDSTICK: whole_s(sys.executable, "-c", "import torch"),
        "import mmsearch": whole_s(sys.executable, "-c", "import mmsearch"),
        "mmsearch --help": whole_s(MMSEARCH, "--help"),
    }
    for name, n_trials in (("new", N_TRIALS), ("again", 2 * N_TRIALS)):
        began = time.time()
        times[f"{N_TRIALS} trials, {name}"] = whole_s(*run, "--trials", str(n_trials))
        times[f"first segment, {name}"] = first_segment(Journal(folder / "names"), began)
    times["nothing left to train"] = whole_s(*run, "--trials", str(2 * N_TRIALS))
    return times


def main() -> None:
    """Print the table."""
    arguments = options(__doc__, repeats=5, steps=1000)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        env = environment(home)
        turns = [
            turn(home / f"runs-{n}", env, arguments.steps) for n in range(arguments.repeats + 1)
        ][1:]
    rows = []
    for name in turns[0]:
        seconds = [times[name] for times in turns]
        ratios = [times[name] / times[YARDSTICK] for times in turns]
        rows.append({"what": name, "seconds": shown(seconds, ".2f"), "ratio": shown(ratios, ".2f")})
    title = f"medians of {arguments.repeats} turns; ratios to `{YARDSTICK}`"
    report("start", title, rows, {"turns": turns})


if __name__ == "__main__":
    main()
