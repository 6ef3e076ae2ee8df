"""`mmsearch report`: write a study as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.study.workspace import Workspace


def report(  # noqa: PLR0913 (each is one flag)
    path: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="HTML file.", show_default="STUDY.html"),
    ] = None,
    *,
    top: Annotated[int, options.number("Include plots of the N best trials.", min=0)] = 5,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write a study as one HTML page with its figures, for readers without MLflow."""
    from mmsearch.search.results.report import write_report  # noqa: PLC0415 (imports wait)

    journal = Workspace.at(workspace).existing(study)
    target = path or Path(f"{journal.name}.html")
    write_report(journal, target, top)
    if as_json:
        print_json({"study": journal.name, "file": str(target)})
    else:
        text = str(target) if quiet else f"wrote study {journal.name!r} to {str(target)!r}"
        make_console().print(text)
