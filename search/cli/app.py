"""The command line: parses, calls, prints.

Nothing slow is imported before a command needs it: `--help` loads neither torch nor MLflow nor
Optuna.
"""

from __future__ import annotations

import io
import math
import os
import signal
import sys
import time
from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import Annotated, NoReturn

import typer

from mmsearch.errors import InputError, MMSearchError
from mmsearch.search.cli import models, setup, shown
from mmsearch.search.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    StudyOption,
    VersionOption,
    WatchOption,
    WorkspaceOption,
    study_names,
)
from mmsearch.search.display import printing
from mmsearch.search.execution.cores import n_cores
from mmsearch.search.execution.interrupts import (
    Interrupts,
    exit_code,
    leave_terminal,
    stopping_signals,
)
from mmsearch.search.results.advice import known_baselines
from mmsearch.search.study.settings import Pruner, Sampler  # noqa: TC001 (typer reads them)
from mmsearch.search.study.workspace import Workspace, is_owned

app = typer.Typer(
    name="mmsearch",
    help="Search the hyperparameters of a character-level MLP language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # locals of a traceback may hold words and passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _begin(context: typer.Context, *, version: VersionOption = False) -> None:  # noqa: ARG001
    """Settle what holds for every command's files and processes."""
    # A workspace is its user's alone, whatever the umask; what is made to be handed on is not.
    if context.invoked_subcommand not in {"export", "init", "report"}:
        context.obj = os.umask(0o077)  # for the one file that such a command hands on
    # Workers and the UI's server would look for modules in the folder that we stand in, first.
    os.environ["PYTHONSAFEPATH"] = "1"


# The defaults that --help names are those of `Settings`; a test holds the two together.
_STUDY, _SEARCH, _STORES = "The study", "The search", "Stores and output"


@app.command()
def run(  # noqa: PLR0913 (each is one flag)
    *,
    trials: Annotated[
        int,
        typer.Option(
            "--trials",
            "-n",
            min=1,
            metavar="N",
            help="Finished trials to have.",
            rich_help_panel=_SEARCH,
        ),
    ] = 50,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="After these no trial begins.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Worker processes.",
            show_default="the cores",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    sampler: Annotated[
        Sampler | None,
        typer.Option(
            metavar="NAME",
            help="tpe, gp, random.",
            show_default="tpe",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    pruner: Annotated[
        Pruner | None,
        typer.Option(
            metavar="NAME",
            help="halving, median, hyperband, none.",
            show_default="halving",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of proposals and training.",
            show_default="0",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            "-s",
            metavar="NAME",
            help="Its name.",
            show_default="the corpus's name",
            autocompletion=study_names,
            rich_help_panel=_STUDY,
        ),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="One word a line.",
            show_default="built-in names",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    keep_duplicates: Annotated[
        bool | None,
        typer.Option(
            "--keep-duplicates",
            help="Keep repeated words, as the article does.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="TOML settings; mmsearch init writes one.", rich_help_panel=_STUDY
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Planned steps.", show_default="1000", rich_help_panel=_SEARCH
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Contexts a step.", show_default="512", rich_help_panel=_SEARCH
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Of Optuna.",
            show_default="in the workspace",
            rich_help_panel=_STORES,
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Of MLflow; or $MLFLOW_TRACKING_URI.",
            envvar="MLFLOW_TRACKING_URI",
            show_envvar=False,
            show_default="in the workspace",
            rich_help_panel=_STORES,
        ),
    ] = None,
    workspace: Annotated[
        Path,
        typer.Option(
            "--workspace",
            "-w",
            metavar="DIR",
            envvar="MMSEARCH_WORKSPACE",
            show_envvar=False,
            help="All studies; or $MMSEARCH_WORKSPACE.",
            rich_help_panel=_STORES,
        ),
    ] = DEFAULT_WORKSPACE,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print the result alone.", rich_help_panel=_STORES),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_STORES)
    ] = False,
) -> None:
    """Search until the study has its trials; the same line again goes on where it stopped."""
    from mmsearch.search.display.progress import Progress  # noqa: PLC0415
    from mmsearch.search.execution.coordinator import Limits  # noqa: PLC0415 (imports wait for a command)
    from mmsearch.search.execution.runner import opened, train  # noqa: PLC0415
    from mmsearch.search.execution.search_job import Search  # noqa: PLC0415
    from mmsearch.search.study.session import Request, Session  # noqa: PLC0415

    if timeout is not None and not math.isfinite(timeout):
        raise InputError(f"--timeout takes a number of seconds, got {timeout}")
    said = {
        "keep_duplicates": keep_duplicates,
        "steps": steps,
        "batch_size": batch_size,
        "sampler": sampler,
        "pruner": pruner,
        "seed": seed,
    }
    session = Session.open(
        Request(
            workspace=workspace,
            n_trials=trials,
            study=study,
            corpus=corpus,
            config=config,
            given={name: value for name, value in said.items() if value is not None},
            storage=storage,
            tracking_uri=tracking_uri,
        )
    )
    console = printing.console()
    is_quiet = quiet or as_json
    job = Search(session)
    began = time.monotonic()
    with opened(job) as earlier:
        if not is_quiet:
            looks = printing.known_looks(console, session.split.fingerprint)
            printing.print_start(console, session, earlier, trials, looks)
        with Progress(console, trials, earlier, is_quiet=is_quiet) as progress:
            say = printing.console(stderr=True).print if as_json else progress.say
            interrupts = Interrupts(say)
            result = train(
                job,
                earlier,
                Limits(n_trials=trials, timeout_s=timeout),
                n_workers=workers or n_cores(),
                observers=(progress,),
                say=say,
                interrupts=interrupts,
            )
    wall_s = time.monotonic() - began
    if as_json:
        printing.emit(printing.search_json(session, result, trials, wall_s))
    else:
        if not quiet:
            console.print()
        printing.print_end(console, session, result, trials, wall_s, is_quiet=quiet)
    if result.is_interrupted:
        raise typer.Exit(interrupts.exit_code)


@app.command("trials")
def list_trials(
    *,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")
    ] = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
) -> None:
    """List a study's trials, best first; or follow its search from another terminal."""
    journal = Workspace.at(workspace).existing(study)
    if watch:
        from mmsearch.search.display.watch import Watch  # noqa: PLC0415 (imports wait for a command)

        stopped_by = Watch(printing.console(), journal, limit, as_json).run()
        if stopped_by is not None:
            raise typer.Exit(exit_code(stopped_by))
        return
    records = sorted(journal.records(), key=lambda trial: trial.rank)[:limit]
    is_running = is_owned(journal)
    if as_json:
        printing.emit([printing.trial_json(record) for record in records])
    elif records:
        console = printing.console()
        console.print(printing.trials_table(records, is_running=is_running))
        known = known_baselines(journal)
        printing.print_baselines(console, known)
        printing.print_warnings(console, known)
    else:
        printing.console().print(
            f"study {journal.name!r} has no trial yet; go on with: mmsearch run"
        )


app.command()(shown.ui)
app.command()(setup.init)
app.command()(setup.lr_range)
app.command()(models.confirm)
app.command()(models.final_test)
app.command()(models.sample)
app.command()(models.replay)
app.command()(models.export)
app.command()(models.report)
app.command()(setup.corpus)
app.command()(shown.sync)


def _on_signal(number: int, _frame: object) -> NoReturn:
    leave_terminal(number)
    how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    printing.console(stderr=True).print(how, style="yellow")
    sys.exit(exit_code(number))


def main() -> NoReturn:
    """Run the command line; an error that a person can act on is one line and an exit code."""
    for number in stopping_signals():
        signal.signal(number, _on_signal)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal cannot show
    try:
        app()
    except MMSearchError as error:
        printing.print_error(error)
        sys.exit(error.exit_code)
    sys.exit(0)
