"""The command line: the list of commands, and how errors and signals end them.

Nothing slow is imported before a command needs it: `--help` loads neither torch nor MLflow nor
Optuna.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from typer.exceptions import TyperException

from mmsearch.errors import MMSearchError
from mmsearch.search.cli import options  # noqa: TC001 (typer reads it)
from mmsearch.search.cli.confirm import confirm
from mmsearch.search.cli.corpus import corpus
from mmsearch.search.cli.delete import delete
from mmsearch.search.cli.exclude import exclude
from mmsearch.search.cli.export import export
from mmsearch.search.cli.extend import extend
from mmsearch.search.cli.figures import figures
from mmsearch.search.cli.final_test_command import final_test
from mmsearch.search.cli.init import init
from mmsearch.search.cli.losses import losses
from mmsearch.search.cli.lr_range import lr_range
from mmsearch.search.cli.replay import replay
from mmsearch.search.cli.report import report
from mmsearch.search.cli.run import run
from mmsearch.search.cli.sample import sample
from mmsearch.search.cli.sync import sync
from mmsearch.search.cli.trials import trials
from mmsearch.search.cli.ui import ui
from mmsearch.search.display.console import make_console, print_error, print_json_error
from mmsearch.search.display.streams import guard_streams, is_output_lost, release_output
from mmsearch.search.execution.interrupts import exit_code, leave_terminal, stopping_signals

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="mmsearch",
    help="Search the hyperparameters of a character-level MLP language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # locals of a traceback may hold words and passwords
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _begin(context: typer.Context, *, version: options.Version = False) -> None:  # noqa: ARG001
    """Set the umask and the environment of every command."""
    try:
        Path.cwd()
    except OSError as error:
        raise MMSearchError(
            f"the current folder cannot be used: {error.strerror}; change to another one"
        ) from error
    # A workspace is private to its user, whatever the umask; files made to be shared are not.
    if context.invoked_subcommand not in {"export", "figures", "init", "report"}:
        context.obj = os.umask(0o077)  # for the figure that lr-range writes
    # Workers and the UI's server would first look for modules in the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"


_COMMANDS: tuple[Callable[..., None], ...] = (
    run,
    trials,
    ui,
    confirm,
    extend,
    final_test,
    sample,
    losses,
    replay,
    export,
    figures,
    report,
    init,
    lr_range,
    corpus,
    sync,
    exclude,
    delete,
)
for _command in _COMMANDS:
    app.command()(_command)


def _on_signal(number: int, _frame: object) -> NoReturn:
    leave_terminal(number)
    release_output()
    how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    make_console(stderr=True).print(how, style="yellow")
    sys.exit(exit_code(number))


def main() -> NoReturn:
    """Run the command line; print an error that a user can act on as one line, and exit."""
    guard_streams()
    for number in stopping_signals():
        signal.signal(number, _on_signal)
    as_json = "--json" in sys.argv
    code: object = 0
    try:
        try:
            code = app(standalone_mode=not as_json)
        except SystemExit as error:
            code = error.code
        sys.stdout.flush()
    except SystemExit as error:
        code = code or error.code
    except MMSearchError as error:
        code = error.exit_code
        if as_json:
            print_json_error(error, error.exit_code)
        else:
            print_error(error)
    except TyperException as error:
        code = error.exit_code
        print_json_error(MMSearchError(error.format_message()), error.exit_code)
    if not code and is_output_lost():
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
