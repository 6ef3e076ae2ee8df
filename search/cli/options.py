"""The options that several commands share; `None` where nothing was said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def study_names(context: typer.Context, incomplete: str) -> list[str]:
    """Name the workspace's studies to a shell that completes; silent, whatever is wrong."""
    try:
        root = Path(context.params.get("workspace") or DEFAULT_WORKSPACE)
        found = sorted(path.parent.name for path in root.glob("*/study.json"))
    except (OSError, TypeError, ValueError):
        return []
    return [name for name in found if name.startswith(incomplete)]


def trial_numbers(context: typer.Context, incomplete: str) -> list[str]:
    """Name the trials of the study, or of the only one, to a shell that completes."""
    study = context.params.get("study")
    studies = [study] if study else study_names(context, "")
    if len(studies) != 1:
        return []
    try:
        root = Path(context.params.get("workspace") or DEFAULT_WORKSPACE)
        names = [path.parent.name for path in root.glob(f"{studies[0]}/trials/*/outcome.json")]
        numbers = [str(number) for number in sorted(map(int, names))]
    except (OSError, TypeError, ValueError):
        return []
    return [number for number in numbers if number.startswith(incomplete)]


def _show_version(is_asked: bool) -> None:  # noqa: FBT001 (typer calls it so)
    if is_asked:
        from importlib.metadata import version  # noqa: PLC0415 (imports wait)

        sys.stdout.write(f"mmsearch {version('mmsearch')}\n")
        raise typer.Exit


DEFAULT_WORKSPACE = Path("runs")
VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
]
WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="MMSEARCH_WORKSPACE", help="Folder of all studies."),
]
StudyOption = Annotated[
    str | None,
    typer.Option(
        "--study",
        "-s",
        help="Name of the study.",
        show_default="the only one",
        autocompletion=study_names,
    ),
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
StorageOption = Annotated[
    str | None, typer.Option(help="Optuna database URL.", show_default="the study's own")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Worker processes.", show_default="the cores")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone.")]
"""No progress, no advice. Of what is written, the result is its path; of `sync`, nothing."""
