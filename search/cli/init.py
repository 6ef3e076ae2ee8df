"""`mmsearch init`: write a config file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmsearch.errors import InputError, MMSearchError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.study.workspace import Workspace, options_in


def init(  # noqa: PLR0913 (each is one flag)
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The new config file.")] = Path(
        "mmsearch.toml"
    ),
    *,
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            "-s",
            metavar="NAME",
            help="Write the settings of this study instead of the defaults.",
            autocompletion=options.study_names,
        ),
    ] = None,
    article: Annotated[
        bool, typer.Option("--article", help="Write makemore's recipe instead of the defaults.")
    ] = False,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write a config file with every setting at its default and a comment for each.

    Give it to mmsearch run --config. With --study, it has that study's settings.
    """
    from mmsearch.search.study.config_file import template  # noqa: PLC0415 (imports wait)
    from mmsearch.search.study.settings import settle  # noqa: PLC0415 (likewise)
    from mmsearch.search.study.study_file import StudyFile  # noqa: PLC0415 (likewise)

    if study is not None and article:
        raise InputError("--study and --article exclude each other; give one of them")
    text, corpus, opened = template(), None, Workspace.at(workspace)
    if study is not None:
        stored = StudyFile.require(opened.existing(study))
        text, corpus = template(stored.settings, f"its value in study {study!r}"), stored.corpus
    if article:
        text = template(settle({"recipe": "article"}), "its value in makemore's recipe")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise InputError(f"{str(path)!r} already exists; name a new file") from error
    except OSError as error:
        raise MMSearchError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    if as_json:
        print_json({"file": str(path)})
    elif quiet:
        make_console().print(str(path))
    else:
        words = ["mmsearch", "run", "--config", str(path)]
        words += [] if corpus is None else ["--corpus", corpus]
        # The settings of an existing study are fixed.
        name = "NEW-NAME" if opened.studies() else None
        command = shlex.join(words) + options_in(opened.root, name)
        make_console().print(f"wrote {str(path)!r}\nedit it, then search with: {command}")
