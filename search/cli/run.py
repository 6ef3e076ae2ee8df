"""`mmsearch run`: search hyperparameters."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.counts import counted
from mmsearch.data.tables import table_delimiter
from mmsearch.errors import InputError
from mmsearch.search.cli import options
from mmsearch.search.display.advice import (
    known_looks,
    print_baselines,
    print_looks,
    print_table_warnings,
    print_warnings,
)
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.display.format import format_counts, format_duration, format_spec, trial_json
from mmsearch.search.display.streams import going_on
from mmsearch.search.results.advice import search_advice
from mmsearch.search.results.optimism import Optimism
from mmsearch.search.results.selection import read_extensions
from mmsearch.search.study.settings import Pruner, Sampler  # noqa: TC001 (typer reads them)
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal.records import TrialState, best_trial, counts_by_state, n_finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mmsearch.search.execution.coordinator import SearchResult
    from mmsearch.search.study.session import Session
    from mmsearch.tracking.journal.records import TrialRecord


# The defaults that --help names are those of `Settings`; a test compares the two.
def run(  # noqa: PLR0913 (each is one flag)
    *,
    trials: Annotated[
        int,
        options.number(
            "Total number of finished trials, earlier runs included.", "--trials", "-n", min=1
        ),
    ] = 50,
    count_extensions: Annotated[
        bool,
        typer.Option("--count-extensions", help="Count finished extensions as trials, too."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Stop after SECONDS, as after Ctrl-C; run again to resume.",
            show_default=False,
        ),
    ] = None,
    workers: options.Workers = None,
    dask: options.Dask = None,
    sampler: Annotated[
        Sampler | None,
        typer.Option(metavar="NAME", help="Optuna sampler: tpe, gp or random.", show_default="tpe"),
    ] = None,
    pruner: Annotated[
        Pruner | None,
        typer.Option(
            metavar="NAME",
            help="Pruner: halving, median, hyperband or none.",
            show_default="halving",
        ),
    ] = None,
    seed: Annotated[
        int | None, options.number("Random seed for the sampler and for training.", default="0")
    ] = None,
    steps: Annotated[
        int | None, options.number("Planned training steps per trial.", default="1000")
    ] = None,
    batch_size: Annotated[int | None, options.number("Contexts per step.", default="512")] = None,
    study: options.NewStudy = None,
    corpus: options.Corpus = None,
    keep_duplicates: options.KeepDuplicates = None,
    column: options.Column = None,
    lower: options.Lower = None,
    boundary: options.Boundary = None,
    config: options.Config = None,
    storage: options.Storage = None,
    tracking_uri: options.TrackingUri = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Search until the study has N finished trials; run again to resume a search."""
    from mmsearch.search.cli.training import (  # noqa: PLC0415 (imports wait)
        chosen_workers,
        dask_option,
        train_live,
    )
    from mmsearch.search.execution.coordinator import Limits  # noqa: PLC0415
    from mmsearch.search.execution.runner import opened  # noqa: PLC0415
    from mmsearch.search.execution.search_job import Search  # noqa: PLC0415
    from mmsearch.search.study.session import Request, Session  # noqa: PLC0415

    if timeout is not None and not math.isfinite(timeout):
        raise InputError(f"--timeout takes a number of seconds, got {timeout}")
    training = chosen_workers(workers, dask)
    given = options.given(
        keep_duplicates=keep_duplicates,
        column=column,
        lower=lower,
        boundary=boundary,
        steps=steps,
        batch_size=batch_size,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
    )
    session = Session.open(
        Request(
            workspace=workspace,
            n_trials=trials,
            study=study,
            corpus=corpus,
            config=config,
            given=given,
            storage=storage,
            tracking_uri=tracking_uri,
        )
    )
    out = make_console()
    if count_extensions:
        n_extended = sum(record.is_complete for record in read_extensions(session.journal))
        trials = max(trials - n_extended, 0)
        file = dataclasses.replace(session.file, n_trials=trials)
        session = dataclasses.replace(session, file=file)
        if not (quiet or as_json):
            count = counted(n_extended, "finished extension counts", "finished extensions count")
            out.print(f"{count}, which leaves {counted(trials, 'trial')}")
    job = Search(session)
    began_s = time.monotonic()
    with going_on("the search"), opened(job) as earlier:
        if not (quiet or as_json):
            _print_start(out, session, earlier, trials)
        limits = Limits(n_trials=trials, timeout_s=timeout)
        result, interrupted_code = train_live(
            job, earlier, limits, training, out, is_quiet=quiet, as_json=as_json
        )
    wall_s = time.monotonic() - began_s
    if as_json:
        print_json(_to_json(session, result, trials, wall_s))
    else:
        _print_end(out, session, result, trials, wall_s, cluster=dask_option(dask), is_quiet=quiet)
    if result.ended_by == "interrupt":
        raise typer.Exit(interrupted_code)


def _print_start(
    out: Console, session: Session, earlier: Sequence[TrialRecord], n_trials: int
) -> None:
    """Print what is searched, how much of it is finished, and whether the test split was used."""
    file, corpus, root = session.file, session.corpus, session.workspace.root
    if root.is_relative_to(Path.cwd()):
        root = root.relative_to(Path.cwd())
    kept = "kept" if corpus.keep_duplicates else "dropped"
    n = file.n_words
    sizes = f"{n['train']:,} train, {n['dev']:,} dev, {counted(n['test'], 'test word')}"
    looks = known_looks(out, session.split.fingerprint)
    out.print(f"study {session.journal.name!r} in {root}")
    out.print(f"  {corpus.name}: {sizes}; {counted(corpus.n_repeats, 'repeat')} {kept}")
    if session.split.n_dev_in_train:
        also = counted(session.split.n_dev_in_train, "dev word also occurs", "dev words also occur")
        out.print(f"  {also} in train")
    delimiter = table_delimiter(corpus.words)
    print_table_warnings(out, delimiter, reads_heading=corpus.reads_heading)
    if looks:
        out.print("  the test split of these words was already used:", style="yellow")
        print_looks(out, looks)
    for name, dimension in file.settings.space.dimensions.items():
        if not dimension.is_fixed or str(dimension) != "0":
            out.print(f"  {name:<14} {dimension}")
    n_earlier = n_finished(earlier)
    if 0 < n_earlier < n_trials:
        out.print(f"  resuming: {n_earlier} of {counted(n_trials, 'trial')} already finished")


def _print_end(  # noqa: PLR0913 (what a search came to)
    out: Console,
    session: Session,
    result: SearchResult,
    n_trials: int,
    wall_s: float,
    *,
    cluster: str,
    is_quiet: bool,
) -> None:
    """Print the result of a search and, unless quiet, warnings and the next commands."""
    records, name = result.records, session.journal.name
    counts = format_counts(counts_by_state(records))
    if not is_quiet:
        out.print()
    if result.n_begun == 0 and result.n_finished >= n_trials:
        print_wrapped(
            out,
            f"study {name!r} already has {counted(result.n_finished, 'finished trial')} "
            f"({counts}), and --trials is {n_trials}",
        )
    else:
        out.print(
            f"{result.n_finished} of {counted(n_trials, 'trial')} ({counts}) in "
            f"{format_duration(wall_s)}"
        )
    if result.ended_by == "timeout":
        out.print("the time was up; trials in flight wait for the next run", style="yellow")
    best = best_trial(records)
    if best is None:
        out.print("no trial is complete yet")
    else:
        out.print(
            f"best: trial {best.number}, dev loss {best.dev_loss:.4f} nats per character",
            style="bold green",
        )
        out.print(f"  {format_spec(best.spec)}")
        if optimism := str(Optimism.of(records)):
            print_wrapped(out, f"  {optimism}")
    advice = search_advice(session.journal, records, session.file.settings.space)
    print_baselines(out, advice)
    if is_quiet:
        return
    print_warnings(out, advice)
    where = options_of(session.journal)
    if result.n_finished < n_trials:
        out.print(f"resume:   mmsearch run --trials {n_trials}{where}{cluster}")
    elif result.n_begun == 0:
        out.print(f"more:     mmsearch run --trials {result.n_finished + 10}{where}")
    if best is not None:
        out.print(f"compare:  mmsearch ui{where}")
        out.print(f"confirm:  mmsearch confirm{where}")
        out.print(f"sample:   mmsearch sample{where}")


def _to_json(
    session: Session, result: SearchResult, n_trials: int, wall_s: float
) -> dict[str, Any]:
    records = result.records
    advice = search_advice(session.journal, records, session.file.settings.space)
    counts = counts_by_state(records)
    best = best_trial(records)
    return {
        "study": session.journal.name,
        "n_trials": n_trials,
        "n_finished": result.n_finished,
        "ended_by": result.ended_by,
        "n_complete": counts[TrialState.COMPLETE],
        "n_pruned": counts[TrialState.PRUNED],
        "n_failed": counts[TrialState.FAIL],
        "wall_s": round(wall_s, 3),
        "best": None if best is None else trial_json(best, read_extensions(session.journal)),
        **advice.to_json(),
        "optimism": dataclasses.asdict(Optimism.of(records)),
    }
