"""Shared by the benchmarks: options, the command's environment, the clock, tables and JSON."""

import argparse
import json
import math
import os
import platform
import random
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mmsearch.search.study.settings import Settings
from mmsearch.search.study.space import Range

RESULTS = Path(__file__).parent / "results"
"""Folder of the JSON files; not kept by git."""
MMSEARCH = str(Path(sys.executable).with_name("mmsearch"))


def options(doc: str, **defaults: float) -> argparse.Namespace:
    """Parse a script's options, each of which is a number with a default."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="%(default)s")
    return parser.parse_args()


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a user who has set nothing, with an empty home."""
    dropped = ("MLFLOW_", "MMSEARCH_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "HOME": str(home), "COLUMNS": "80", "MPLCONFIGDIR": str(home / "matplotlib")}


def free_port() -> int:
    """Find a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def busy_s() -> float:
    """Return the processor time of all cores since the start of the machine (Linux)."""
    row = Path("/proc/stat").read_text("utf-8").splitlines()[0]
    user, nice, system, _idle, _wait, *interrupts = map(int, row.split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def timed(words: Sequence[str], env: Mapping[str, str], log: Path) -> dict[str, float]:
    """Run a command to its end, with its output in `log`."""
    before, busy = resource.getrusage(resource.RUSAGE_CHILDREN), busy_s()
    with log.open("wb") as output:
        clock = time.perf_counter()
        done = subprocess.run(words, env=env, check=False, stdout=output, stderr=output)  # noqa: S603 (our words)
        whole_s = time.perf_counter() - clock
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{log.read_text('utf-8')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    neighbours = max(0.0, busy_s() - busy - processor_s) / whole_s
    return {"whole_s": whole_s, "processor_s": processor_s, "neighbours": neighbours}


def draw_point(settings: Settings, chance: random.Random) -> dict[str, float]:
    """Draw a value of each hyperparameter; whole numbers get equal shares."""
    point: dict[str, float] = {}
    for name, dimension in settings.space.dimensions.items():
        assert isinstance(dimension, Range)  # noqa: S101 (the default spaces have no choices)
        margin = 0.5 if dimension.is_int and not dimension.is_fixed else 0.0
        low, high = dimension.low - margin, dimension.high + margin
        if dimension.log and not dimension.is_fixed:
            value = math.exp(chance.uniform(math.log(low), math.log(high)))
        else:
            value = chance.uniform(low, high)
        value = min(max(value, dimension.low), dimension.high)
        point[name] = round(value) if dimension.is_int else value
    return point


def machine() -> dict[str, Any]:
    """Describe the machine that the figures were measured on."""
    rows = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [row.partition(": ")[2] for row in rows if row.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median of repeats, and the lowest and highest of them."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def spreads(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return the spread of each figure of repeated runs."""
    return {name: spread([run[name] for run in runs]) for name in runs[0]}


def shown(values: Sequence[float], form: str) -> str:
    """Format the median of values and, if they differ, the lowest and the highest."""
    found = spread(values)
    low, high = f"{found['low']:{form}}", f"{found['high']:{form}}"
    return f"{found['median']:{form}}" + (f" ({low} to {high})" if low != high else "")


def report(
    name: str, title: str, rows: Sequence[Mapping[str, str]], figures: Mapping[str, Any]
) -> None:
    """Print a table, and write `bench/results/NAME.json` with the figures as measured."""
    console = Console()
    console.print(title)
    table = Table(box=None)
    for n, column in enumerate(rows[0]):
        table.add_column(column, justify="right" if n else "left")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n", "utf-8")
    console.print(f"written: {path}", style="dim")
