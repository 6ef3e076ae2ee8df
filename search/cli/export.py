"""`mmsearch export`: write a model as plain files."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import Annotated

import typer

from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.workspace import Workspace


def export(  # noqa: PLR0913 (each is one flag)
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    *,
    trial: options.Trial = None,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write the chosen model's weights, spec and vocabulary, for use without MLflow."""
    from mmsearch.search.results.export import write_model  # noqa: PLC0415 (imports wait)
    from mmsearch.search.results.selection import choose  # noqa: PLC0415 (likewise)

    journal = Workspace.at(workspace).existing(study)
    choice = choose(journal, trial)
    weights = choice.journal.read_weights(choice.record)
    write_model(folder, choice.record.spec, weights, StudyFile.require(journal).vocabulary)
    out = make_console()
    if as_json:
        print_json(
            {
                "study": journal.name,
                "folder": str(folder),
                "model": choice.record.name,
                "trial": choice.record.number,
                "why": choice.why,
                "note": choice.unsettled,
            }
        )
    elif quiet:
        out.print(str(folder))
    else:
        if choice.unsettled:
            out.print(choice.unsettled, style="yellow")
        out.print(f"wrote {choice.record.name} to {str(folder)!r}")
        print_wrapped(out, f"  {choice.why}")
