"""The command line: parses, calls, prints.

Nothing slow is imported before a command needs it: `--help` loads neither torch nor MLflow nor
Optuna.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import time
from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import Annotated, NoReturn

import typer

from mmsearch.errors import InputError, MMSearchError
from mmsearch.search import cli_models, cli_setup, printing
from mmsearch.search.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    StorageOption,
    StudyOption,
    TrackingOption,
    WatchOption,
    WorkspaceOption,
    n_cores,
)
from mmsearch.search.settings import Pruner, Sampler  # noqa: TC001 (typer reads them)
from mmsearch.search.workspace import Workspace, is_owned

app = typer.Typer(
    name="mmsearch",
    help="Search the hyperparameters of a character-level MLP language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # locals of a traceback may hold words and passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _begin(context: typer.Context) -> None:
    """Settle what holds for every command's files and processes."""
    # A workspace is its user's alone, whatever the umask; what is made to be handed on is not.
    if context.invoked_subcommand not in {"export", "init", "report"}:
        os.umask(0o077)
    # Workers and the UI's server would look for modules in the folder that we stand in, first.
    os.environ["PYTHONSAFEPATH"] = "1"


# The defaults that --help names are those of `Settings`; a test holds the two together.
_STUDY, _SEARCH, _TRAINING, _STORES = "The study", "The search", "Each trial", "Stores and output"


@app.command()
def run(  # noqa: PLR0913 (each is one flag)
    *,
    trials: Annotated[
        int,
        typer.Option(
            "--trials",
            "-n",
            min=1,
            help="Finished trials the study shall have.",
            rich_help_panel=_SEARCH,
        ),
    ] = 50,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds after which no trial begins.",
            show_default="none",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Worker processes.", show_default="the cores", rich_help_panel=_SEARCH
        ),
    ] = None,
    sampler: Annotated[
        Sampler | None,
        typer.Option(help="Proposes hyperparameters.", show_default="tpe", rich_help_panel=_SEARCH),
    ] = None,
    pruner: Annotated[
        Pruner | None,
        typer.Option(
            help="Ends hopeless trials.",
            show_default="halving",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of proposals and training.", show_default="0", rich_help_panel=_SEARCH),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            "-s",
            help="Its name.",
            show_default="the corpus's name",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Text file, one word a line.",
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
        typer.Option(help="TOML file of settings; see the README.", rich_help_panel=_STUDY),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="SGD steps.", show_default="60000", rich_help_panel=_TRAINING),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Examples a step.", show_default="32", rich_help_panel=_TRAINING),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Optuna database URL.", show_default="in the workspace", rich_help_panel=_STORES
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            help="MLflow URI.",
            envvar="MLFLOW_TRACKING_URI",
            show_default="in the workspace",
            rich_help_panel=_STORES,
        ),
    ] = None,
    workspace: Annotated[
        Path,
        typer.Option(
            "--workspace",
            "-w",
            envvar="MMSEARCH_WORKSPACE",
            help="Folder of all studies.",
            rich_help_panel=_STORES,
        ),
    ] = DEFAULT_WORKSPACE,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print the result alone.", rich_help_panel=_STORES),
    ] = False,
) -> None:
    """Search until the study has its trials; the same line again goes on where it stopped."""
    from mmsearch.search.coordinator import Limits  # noqa: PLC0415 (imports wait for a command)
    from mmsearch.search.crew import train  # noqa: PLC0415
    from mmsearch.search.progress import Progress  # noqa: PLC0415
    from mmsearch.search.session import Request, Search, Session  # noqa: PLC0415

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
    earlier = session.journal.records()
    if not quiet:
        looks = printing.known_looks(console, session.split.fingerprint)
        printing.print_start(console, session, earlier, trials, looks)
    began = time.monotonic()
    with Progress(console, trials, earlier, is_quiet=quiet) as progress:
        result = train(
            Search(session),
            Limits(n_trials=trials, timeout_s=timeout),
            n_workers=workers or n_cores(),
            observers=(progress,),
            say=progress.say,
        )
    if not quiet:
        console.print()
    printing.print_end(console, session, result, trials, time.monotonic() - began)
    if result.is_interrupted:
        raise typer.Exit(130)


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
        from mmsearch.search.watch import Watch  # noqa: PLC0415 (imports wait for a command)

        if not Watch(printing.console(), journal, limit, as_json).run():
            raise typer.Exit(130)
        return
    records = sorted(journal.records(), key=printing.rank)[:limit]
    is_running = is_owned(journal)
    if as_json:
        print(json.dumps([printing.trial_json(record) for record in records], indent=2))
    elif records:
        printing.console().print(printing.trials_table(records, is_running=is_running))
    else:
        printing.console().print(
            f"study {journal.name!r} has no trial yet; go on with: mmsearch run"
        )


@app.command()
def ui(  # noqa: PLR0913 (each is one flag)
    *,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    tracking_uri: TrackingOption = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port.", show_default="5000, or a free one"),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; any but this machine's own is open to others."),
    ] = "127.0.0.1",
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            metavar="HOST,...",
            help="Names by which browsers on other machines reach it; there is no password.",
            show_default="none",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the link in a browser.")] = True,
) -> None:
    """Open the MLflow UI on a study's comparison; Ctrl-C ends it."""
    import webbrowser  # noqa: PLC0415 (imports wait for a command)

    from mmsearch.search.places import without_userinfo  # noqa: PLC0415
    from mmsearch.search.shown import open_tracker  # noqa: PLC0415
    from mmsearch.tracking.ui import charts_url, check_hosts, leaderboard_url, serve  # noqa: PLC0415

    allowed = [name.strip() for name in (allowed_hosts or "").split(",") if name.strip()]
    check_hosts(host, allowed)
    place = Workspace.at(workspace)
    journal = place.existing(study)
    tracker = open_tracker(place, journal, tracking_uri)
    console = printing.console()

    def link(base: str) -> str:
        return leaderboard_url(base, tracker.experiment_id, tracker.facts.id)

    def show(base: str) -> None:
        url = link(base)
        console.print(f"study {journal.name!r} in MLflow:")
        console.print(f"leaderboard {url}", style="bold")
        console.print(f"charts      {charts_url(url)}", style="bold")
        if browser:
            webbrowser.open(url)

    if tracker.uri.startswith(("http://", "https://")):
        show(without_userinfo(tracker.uri).rstrip("/"))
        return
    console.print("starting the MLflow server ...")
    with serve(
        tracker.uri,
        tracker.artifacts,
        log_folder=place.root / "logs",
        host=host,
        port=port,
        allowed_hosts=allowed,
    ) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sys.exit(0))
        show(server.base)
        for base in server.elsewhere:
            console.print(f"on other machines: {link(base)}")
        console.print("Ctrl-C ends it")
        code = server.process.wait()
        raise MMSearchError(f"the MLflow server ended with code {code}; see {server.log}")


app.command()(cli_setup.init)
app.command()(cli_setup.lr_range)
app.command()(cli_models.confirm)
app.command()(cli_models.final_test)
app.command()(cli_models.sample)
app.command()(cli_models.replay)
app.command()(cli_models.export)
app.command()(cli_models.report)


@app.command()
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
        print(json.dumps(printing.corpus_json(words, split, looks), indent=2, ensure_ascii=False))
    else:
        printing.print_corpus(printing.console(), words, split, looks)


@app.command()
def sync(
    *,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Fill MLflow in with what the workspace knows of a study, each thing once."""
    from mmsearch.search.shown import sync_study  # noqa: PLC0415 (imports wait for a command)

    place = Workspace.at(workspace)
    journal = place.existing(study)
    n_shown = sync_study(place, journal, storage, tracking_uri)
    printing.console().print(
        f"study {journal.name!r} is whole in MLflow; {n_shown} trials were sent"
    )


def _on_interrupt(_number: int, _frame: object) -> NoReturn:
    printing.console(stderr=True).print("interrupted", style="yellow")
    sys.exit(130)


def main() -> NoReturn:
    """Run the command line; an error that a person can act on is one line and an exit code."""
    signal.signal(signal.SIGINT, _on_interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal cannot show
    try:
        app()
    except MMSearchError as error:
        printing.console(stderr=True).print(f"error: {error}", style="red")
        sys.exit(error.exit_code)
    sys.exit(0)
