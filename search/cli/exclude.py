"""`mmsearch exclude`: exclude a trial from the choice of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from mmsearch.errors import InputError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.study.workspace import Workspace


def exclude(  # noqa: PLR0913 (each is one flag)
    number: Annotated[
        int,
        typer.Argument(
            min=0, metavar="N", help="Trial number.", autocompletion=options.trial_numbers
        ),
    ],
    *,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Why; recorded with the trial.", show_default=False),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take an exclusion back.")] = False,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    storage: options.Storage = None,
    tracking_uri: options.TrackingUri = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Exclude a trial from the choice of a model, with a reason.

    It stays in the study, in Optuna and in MLflow, and the search goes on
    learning from it. Name it with --trial to use it all the same.
    """
    from mmsearch.search.results.exclusion import exclude_trial  # noqa: PLC0415 (imports wait)

    if undo == (reason is not None):
        raise InputError("give either a --reason, or --undo")
    if reason is not None and not (reason.strip() and reason.isprintable()):
        raise InputError("--reason takes a line of text")
    opened = Workspace.at(workspace)
    journal = opened.existing(study)
    record = exclude_trial(
        opened, journal, number, reason=reason or "", storage=storage, uri=tracking_uri
    )
    if as_json:
        values = {"study": journal.name, "trial": number, "excluded": record.excluded}
        print_json(values)
    elif not quiet:
        how = "is excluded from the choice" if record.excluded else "can be chosen again"
        print_wrapped(make_console(), f"trial {number} of study {journal.name!r} {how}")
