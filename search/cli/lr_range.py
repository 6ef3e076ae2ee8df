"""`mmsearch lr-range`: find the learning rates that are worth searching."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.counts import counted
from mmsearch.errors import InputError, MMSearchError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.display.streams import going_on
from mmsearch.search.study.settings import Settings
from mmsearch.search.study.workspace import options_in, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from mmsearch.search.execution.lr_range import RangeTest
    from mmsearch.search.study.session import Session
    from mmsearch.search.study.space import Space

N_ROWS = 13
"""Rates in the printed table: four per decade of the default range."""
_ARTICLE: Mapping[str, float] = {
    "embedding_dim": 10,
    "hidden_width": 200,
    "block_size": 3,
    "weight_decay": 0.0,
}
"""The hyperparameters of makemore's MLP: the defaults, moved into the range that is searched."""


def lr_range(  # noqa: PLR0913 (each is one flag)
    context: typer.Context,
    *,
    low: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="First learning rate.", show_default="1e-5; 0.001 for SGD"
        ),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Last learning rate.", show_default="0.1; 1 for SGD"),
    ] = None,
    steps: Annotated[int, options.number("Optimizer steps per seed.", min=20, max=100_000)] = 1000,
    seeds: Annotated[int, options.number("Number of random seeds.", min=1, max=100)] = 5,
    embedding_dim: Annotated[
        int | None, options.number("Embedding dim.", default="10, clipped to [space]", min=1)
    ] = None,
    hidden_width: Annotated[
        int | None, options.number("Hidden width.", default="200, clipped to [space]", min=1)
    ] = None,
    block_size: Annotated[
        int | None, options.number("Context length.", default="3, clipped to [space]", min=1)
    ] = None,
    weight_decay: Annotated[
        float | None, options.number("Weight decay.", default="0, clipped to [space]", min=0)
    ] = None,
    study: options.NewStudy = None,
    corpus: options.Corpus = None,
    keep_duplicates: options.KeepDuplicates = None,
    column: options.Column = None,
    lower: options.Lower = None,
    boundary: options.Boundary = None,
    config: options.Config = None,
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Write the suggested range into the --config file."),
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the losses into this PNG file.")
    ] = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
) -> None:
    """Find the learning rates worth searching, by a range test.

    For each of several seeds, take one optimizer step at each of many learning
    rates, evenly spaced on a log scale.
    """
    from mmsearch.search.execution.lr_range import (  # noqa: PLC0415 (imports torch)
        RATES,
        draw,
        log,
        range_test,
    )
    from mmsearch.search.study.config_file import write_learning_rates  # noqa: PLC0415 (likewise)
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
            given=options.given(
                keep_duplicates=keep_duplicates, column=column, lower=lower, boundary=boundary
            ),
            tracking_uri=tracking_uri,
        )
    )
    settings = session.file.settings
    if "optimizer" in settings.space.dimensions:
        raise InputError(
            "the learning rates worth searching depend on the optimizer, and this study searches "
            "it; name a --config that fixes optimizer under [training]"
        )
    given = {
        "embedding_dim": embedding_dim,
        "hidden_width": hidden_width,
        "block_size": block_size,
        "weight_decay": weight_decay,
    }
    usual_low, usual_high = RATES[settings.optimizer]
    test = range_test(
        session,
        _point(given, settings.space),
        low=usual_low if low is None else low,
        high=usual_high if high is None else high,
        n_steps=steps,
        n_seeds=seeds,
    )
    if figure is not None:
        with _umask(context.obj):  # the user's own, as the file is made to be shared
            draw(test, figure)
    if apply and config is not None and test.valley is not None:
        write_learning_rates(config, test.valley.low, test.valley.high)
    out, run_id = make_console(), None
    with going_on("the test"):
        if not as_json:
            command = None if config is None else _command(session, config, corpus)
            _print_test(out, test, command if apply else None)
        try:
            run_id = log(session, test)
        except MMSearchError as error:
            make_console(stderr=True).print(f"not logged to MLflow: {error}", style="yellow")
    if as_json:
        print_json({**test.to_json(), "figure": figure and str(figure), "run_id": run_id})
    else:
        _print_places(out, session, figure, run_id)
    if test.valley is None:
        raise typer.Exit(1)


def _point(given: Mapping[str, float | None], space: Space) -> dict[str, float]:
    """Return the hyperparameters of the test: the given ones, else makemore's, within the space."""
    from mmsearch.search.study.space import Range  # noqa: PLC0415 (imports wait for a command)

    point = {}
    for name, value in given.items():
        dimension, usual = space.dimensions[name], _ARTICLE[name]
        if value is not None:
            point[name] = value
        elif isinstance(dimension, Range):
            point[name] = dimension.cast(min(max(usual, dimension.low), dimension.high))
        else:
            point[name] = usual if dimension.holds(usual) else dimension.values[0]
    return point


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Create files with the permissions that a umask leaves."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _print_places(out: Console, session: Session, figure: Path | None, run_id: str | None) -> None:
    """Print where the figure and the run of a test are."""
    if figure is not None:
        out.print(f"figure:   {shlex.quote(str(figure))}")
    if run_id is not None:
        out.print(f"run:      {run_id}, with its figure, in MLflow")
        later = "" if session.before else ", once its search has begun"
        out.print(f"open it:  mmsearch ui{options_of(session.journal)}{later}")


def _command(session: Session, config: Path, corpus: Path | None) -> str:
    """Return the command that searches with a config file, on the same words."""
    source, usual = corpus or session.file.corpus, Settings().reading
    words = ["mmsearch", "run", "--config", str(config)]
    words += [] if source is None else ["--corpus", str(source)]
    for name, value in session.file.settings.reading.items():
        if value != usual[name]:
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    # The settings of an existing study are fixed.
    name = session.journal.name if session.before is None else "NEW-NAME"
    return shlex.join(words) + options_in(session.workspace.root, name)


def _print_test(out: Console, test: RangeTest, command: str | None) -> None:
    """Print the loss at a few rates, and the suggested range.

    Args:
        out: the console.
        test: the test.
        command: searches with the config file to which the range was written; None for no file.
    """
    import numpy as np  # noqa: PLC0415 (imports wait for a command)

    from mmsearch.model.lr_range import FLOOR, SMOOTHED  # noqa: PLC0415 (imports torch)
    from mmsearch.search.display.tables import make_table  # noqa: PLC0415 (imports wait)

    first, last = test.learning_rates[0], test.learning_rates[-1]
    steps = f"{counted(len(test.learning_rates), 'step')}, {counted(len(test.seeds), 'seed')}"
    out.print(f"learning rates {first:.3g} to {last:.3g}, {steps}")
    out.print(f"  {', '.join(f'{name} {value:g}' for name, value in test.point.items())}")
    typical = np.median(test.means, axis=0)
    rows = []
    for index in np.linspace(0, len(typical) - 1, N_ROWS).round().astype(int):
        column = test.means[:, index]
        losses = (typical[index], column.min(), column.max())
        shown = (f"{loss:.3f}" if np.isfinite(loss) else "diverged" for loss in losses)
        rows.append((f"{test.learning_rates[index]:.2g}", *shown))
    out.print(make_table(("lr", "loss", "lowest seed", "highest seed"), rows))
    valley = test.valley
    if valley is None:
        out.print(
            "no learning rate lowered the loss, so no range can be suggested; try a lower --low "
            "or more --steps",
            style="yellow",
        )
        return
    out.print(
        f"lowest: {valley.best_loss:.3f} nats per character at lr {valley.best:.2g}, from "
        f"{typical[0]:.3f} at the start"
    )
    out.print(f"suggested: lr {valley.low:g} to {valley.high:g}", style="bold green")
    print_wrapped(
        out,
        "  The range around the lowest loss in which the loss has risen by less than "
        f"{FLOOR:.0%} of its fall from the start. Losses are medians over the seeds of moving "
        f"means over {SMOOTHED:.0%} of the steps.",
    )
    for warning in test.warnings:
        print_wrapped(out, f"warning: {warning}", style="yellow")
    if command is not None:
        out.print(f"written to the config file; search it: {command}")
    else:
        out.print("search it: add --config FILE --apply, or write under [space] in a config file:")
        out.print(f"  learning_rate = {{ low = {valley.low:g}, high = {valley.high:g} }}")
