"""`mmsearch delete`: delete a study and its views."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mmsearch.counts import counted
from mmsearch.errors import InputError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.study.workspace import Workspace


def delete(  # noqa: PLR0913 (each is one flag)
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="Study name.", autocompletion=options.study_names),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    storage: options.Storage = None,
    tracking_uri: options.TrackingUri = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Delete a study in the workspace, in Optuna's storage and in MLflow.

    Looks at its test split stay recorded, so that the split remains used up.
    """
    from mmsearch.search.results.deletion import delete_study  # noqa: PLC0415 (imports wait)

    opened = Workspace.at(workspace)
    journal = opened.existing(study)
    out = make_console()
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise InputError(f"study {study!r} is not deleted without being asked; add --yes")
        n_trials = len(journal.numbers())
        typer.confirm(f"delete study {study!r} with its {counted(n_trials, 'trial')}?", abort=True)
    line = delete_study(opened, journal, storage, tracking_uri)
    if as_json:
        print_json(line)
    elif not quiet:
        print_wrapped(out, f"study {study!r} is deleted; looks at its test split stay recorded")
