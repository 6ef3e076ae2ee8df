"""`mmsearch figures`: write the figures of a study or of a trial as files."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import Annotated, Literal

import typer

from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.study.workspace import Workspace


def figures(  # noqa: PLR0913 (each is one flag)
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    *,
    trial: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Trial number.",
            show_default="the study as a whole",
            autocompletion=options.trial_numbers,
        ),
    ] = None,
    form: Annotated[
        Literal["png", "svg", "pdf"],
        typer.Option("--format", metavar="NAME", help="File format: png, svg or pdf."),
    ] = "png",
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write the figures of a study, or those of one trial, for use without MLflow.

    Of a study: history, parallel coordinates, trade-off, importance and
    confirmation, as far as its trials allow. Of a trial: its loss curve and its
    embedding.
    """
    from mmsearch.search.results.figure_files import write_figures  # noqa: PLC0415 (imports wait)

    journal = Workspace.at(workspace).existing(study)
    names = [path.name for path in write_figures(journal, trial, folder, form)]
    out = make_console()
    if as_json:
        print_json({"study": journal.name, "trial": trial, "folder": str(folder), "files": names})
    elif quiet:
        out.print(str(folder))
    else:
        what = f"study {journal.name!r}" if trial is None else f"trial {trial}"
        print_wrapped(out, f"wrote {what} to {str(folder)!r}: {', '.join(names)}")
