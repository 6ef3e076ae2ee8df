"""The options that several commands share; None stands for an option that was not given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_WORKSPACE = Path("runs")


def number(text: str, *flags: str, default: str | bool = True, **limits: Any) -> Any:
    """Return an option that takes a number N.

    Args:
        text: its help.
        flags: its names; none for that of the parameter.
        default: the default that the help names; True for that of the parameter.
        limits: `min` and `max`.
    """
    return typer.Option(*flags, metavar="N", help=text, show_default=default, **limits)


def given(**values: Any) -> dict[str, Any]:
    """Return the settings that were given on the command line, by name."""
    return {name: value for name, value in values.items() if value is not None}


def study_names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a study; without a workspace there are none."""
    return _numbered(context, "*/study.json", incomplete)


def trial_numbers(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the number of an ended trial of the named study, or of the only one."""
    study = context.params.get("study")
    studies = [study] if study else study_names(context, "")
    if len(studies) != 1:
        return []
    names = _numbered(context, f"{studies[0]}/trials/*/outcome.json", "")
    numbers = [str(int(name)) for name in names if name.isdecimal()]
    return [number for number in numbers if number.startswith(incomplete)]


def _numbered(context: typer.Context, pattern: str, incomplete: str) -> list[str]:
    """Return the names of the folders that hold the files of a pattern; an error shows nothing."""
    try:
        root = Path(context.params.get("workspace") or DEFAULT_WORKSPACE)
        names = sorted(path.parent.name for path in root.glob(pattern))
    except (OSError, TypeError, ValueError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def _folder(name: str | Path) -> Path:
    """Return a workspace, which an empty name would make the current folder."""
    if not str(name):
        raise typer.BadParameter("it is empty; is a shell variable not set?")
    return Path(name)


def _show_version(is_asked: bool) -> None:  # noqa: FBT001 (typer calls it so)
    if is_asked:
        from importlib.metadata import version  # noqa: PLC0415 (imports wait)

        sys.stdout.write(f"mmsearch {version('mmsearch')}\n")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
]
Study = Annotated[
    str | None,
    typer.Option(
        "--study",
        "-s",
        metavar="NAME",
        help="Study name.",
        show_default="the only study",
        autocompletion=study_names,
    ),
]
NewStudy = Annotated[
    str | None,
    typer.Option(
        "--study",
        "-s",
        metavar="NAME",
        help="Study name.",
        show_default="name of the corpus file",
        autocompletion=study_names,
    ),
]
Corpus = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Text file with one word per line.", show_default="built-in names"
    ),
]
KeepDuplicates = Annotated[
    bool | None,
    typer.Option(
        "--keep-duplicates",
        help="Keep repeated words, as makemore does; dev words then also occur in train.",
    ),
]
Column = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Read one column of a table: its name in the first line, or its number from 1.",
        show_default=False,
    ),
]
Lower = Annotated[
    bool | None, typer.Option("--lower", help="Lower the case of all words.", show_default=False)
]
Boundary = Annotated[
    str | None,
    typer.Option(metavar="CHAR", help="Character that marks the ends of a word.", show_default="."),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML file with settings; mmsearch init writes one."),
]
Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        envvar="MMSEARCH_WORKSPACE",
        parser=_folder,
        help="Folder that holds all studies.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Optuna storage URL.",
        show_default="the study's, or one in the workspace",
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow tracking URI.",
        envvar="MLFLOW_TRACKING_URI",
        show_default="the study's, or one in the workspace",
    ),
]
Workers = Annotated[
    int | None, number("Number of worker processes.", default="one per CPU core", min=1)
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="CLUSTER",
        help="Train on a Dask cluster: tcp://HOST:PORT, tls://..., a scheduler file, or local:N.",
        show_default=False,
    ),
]
Trial = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Trial number.",
        show_default="the chosen model",
        autocompletion=trial_numbers,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
