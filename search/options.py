"""The options that several commands share; `None` where nothing was said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="MMSEARCH_WORKSPACE", help="Folder of all studies."),
]
StudyOption = Annotated[
    str | None,
    typer.Option("--study", "-s", help="Name of the study.", show_default="the only one"),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        help="MLflow URI.",
        envvar="MLFLOW_TRACKING_URI",
        show_default="in the workspace",
        show_envvar=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WatchOption = Annotated[
    bool,
    typer.Option(
        "--watch",
        help="Follow the search until it ends; without a terminal, a line for each trial that has "
        "ended, with --json one of JSON.",
    ),
]
DEFAULT_WORKSPACE = Path("runs")
StorageOption = Annotated[
    str | None, typer.Option(help="Optuna database URL.", show_default="the study's own")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Worker processes.", show_default="the cores")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")]


def n_cores() -> int:
    """Count the cores that this process may use; not every system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
