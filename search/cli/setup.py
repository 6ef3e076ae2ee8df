"""The commands before a search: a config file, and what learning rates to search."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.errors import InputError, MMSearchError
from mmsearch.search.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    QuietOption,
    StudyOption,
    TrackingOption,
    WorkspaceOption,
)
from mmsearch.search.display import printing
from mmsearch.search.study.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODEL, _TEST = "The model", "The test"


def init(  # noqa: PLR0913 (each is one flag)
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")] = Path(
        "mmsearch.toml"
    ),
    *,
    study: StudyOption = None,
    article: Annotated[
        bool, typer.Option("--article", help="Say the article's own recipe.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a config file that says every default, with a comment each, to be edited.

    With --study it says that study's settings: with its words they are the same search.
    """
    from mmsearch.search.study.config_file import template  # noqa: PLC0415 (imports wait)
    from mmsearch.search.study.settings import settle  # noqa: PLC0415 (likewise)
    from mmsearch.search.study.study_file import StudyFile  # noqa: PLC0415 (likewise)

    text = template()
    if study is not None and article:
        raise InputError("--study and --article both say which settings; give one of them")
    if study is not None:
        journal = Workspace.at(workspace).existing(study)
        settings = StudyFile.require(journal).settings
        text = template(settings, f"its value in study {journal.name!r}")
    if article:
        text = template(settle({"recipe": "article"}), "its value in the article's recipe")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise InputError(f"{str(path)!r} is there already; name a new file") from error
    except OSError as error:
        raise MMSearchError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    if as_json:
        printing.emit({"file": str(path)})
        return
    told = f"edit {str(path)!r}, then: mmsearch run --config {quote(str(path))}"
    printing.console().print(str(path) if quiet else told)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Make files that are readable as a umask says."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def lr_range(  # noqa: PLR0913 (each is one flag)
    context: typer.Context,
    *,
    embedding_dim: Annotated[
        int, typer.Option(min=1, help="Embedding dim.", rich_help_panel=_MODEL)
    ] = 10,
    hidden_width: Annotated[
        int, typer.Option(min=1, help="Hidden width.", rich_help_panel=_MODEL)
    ] = 200,
    block_size: Annotated[
        int, typer.Option(min=1, help="Context length.", rich_help_panel=_MODEL)
    ] = 3,
    weight_decay: Annotated[
        float, typer.Option(min=0, help="Weight decay.", rich_help_panel=_MODEL)
    ] = 0.0,
    low: Annotated[
        float | None,
        typer.Option(
            help="First rate.", show_default="1e-5; with SGD 0.001", rich_help_panel=_TEST
        ),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option(help="Last rate.", show_default="0.1; with SGD 1", rich_help_panel=_TEST),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=20, max=100_000, help="Optimizer steps.", rich_help_panel=_TEST)
    ] = 1000,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Trainings.", rich_help_panel=_TEST)
    ] = 5,
    study: Annotated[
        str | None,
        typer.Option("--study", "-s", help="Its name.", show_default="the corpus's name"),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="Text file, one word a line.", show_default="built-in names"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the range into the config file.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(help="PNG file to draw into.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the learning rates worth searching: a short training at rates that grow.

    The article's test: rates evenly spaced on a log scale, one step of the study's optimizer each.
    """
    from mmsearch.search.execution.lr_range import (  # noqa: PLC0415 (imports torch)
        RATES,
        apply_range,
        draw,
        log,
        print_range_test,
        range_test,
    )
    from mmsearch.search.study.session import Request, Session  # noqa: PLC0415 (imports wait)

    if apply and config is None:
        raise InputError("--apply writes into a config file; name it with --config")
    session = Session.open(
        Request(
            workspace=workspace,
            n_trials=1,
            study=study,
            corpus=corpus,
            config=config,
            given={},
            tracking_uri=tracking_uri,
        )
    )
    point = {
        "embedding_dim": embedding_dim,
        "hidden_width": hidden_width,
        "block_size": block_size,
        "weight_decay": weight_decay,
    }
    settings = session.file.settings
    if "optimizer" in settings.space.dimensions:
        raise InputError(
            "the rates that are worth searching depend on the optimizer, and this study searches "
            "it; name a --config that fixes optimizer under [training]"
        )
    usual_low, usual_high = RATES[settings.optimizer]
    test = range_test(
        session,
        point,
        low=usual_low if low is None else low,
        high=usual_high if high is None else high,
        n_steps=steps,
        n_seeds=seeds,
    )
    if figure is not None:
        with _umask(context.obj):  # the user's own: it is made to be handed on
            draw(test, figure)
    if apply and config is not None and test.valley is not None:
        apply_range(config, test.valley)
    if as_json:
        printing.emit(test.to_json())
    else:
        print_range_test(printing.console(), test, config if apply else None)
    try:
        log(session, test)
    except MMSearchError as error:
        printing.console(stderr=True).print(f"not in MLflow: {error}", style="yellow")
    if test.valley is None:
        raise typer.Exit(1)


def corpus(
    path: Annotated[Path | None, typer.Argument(help="Text file.", show_default="built-in")] = None,
    *,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep repeated words.")
    ] = False,
    split_seed: Annotated[int, typer.Option(min=0, help="Of the 80/10/10 shuffle.")] = 42,
    as_json: JsonOption = False,
) -> None:
    """Show what a corpus holds and how it is split; opens no test word."""
    from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus  # noqa: PLC0415
    from mmsearch.data.split import split_corpus  # noqa: PLC0415

    words = read_corpus(path or BUILTIN_CORPUS, keep_duplicates=keep_duplicates)
    split = split_corpus(words, split_seed)
    looks = printing.known_looks(printing.console(stderr=True), split.fingerprint)
    if as_json:
        printing.emit(printing.corpus_json(words, split, looks))
    else:
        printing.print_corpus(printing.console(), words, split, looks)
