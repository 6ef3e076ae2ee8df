"""What every benchmark of this folder ends with: a table in the terminal, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESULTS = Path(__file__).parent / "results"
"""Where the JSON files go; not kept by git."""


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give the median of repeats, and the lowest and highest of them."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def report(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, str]],
    figures: Mapping[str, Any],
) -> None:
    """Print a table and write `bench/results/NAME.json`.

    Args:
        name: of the benchmark.
        title: a line above the table.
        rows: what to print, by column; the first row names the columns.
        figures: what to write, as measured: JSON values.
    """
    console = Console()
    console.print(title)
    table = Table(box=None)
    for column in rows[0]:
        table.add_column(column, justify="left" if column == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n", "utf-8")
    console.print(f"written: {path}", style="dim")
