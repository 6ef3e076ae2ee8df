"""`mmsearch extend`: train a trial on from its final weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.counts import counted
from mmsearch.errors import MMSearchError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.display.format import extension_json
from mmsearch.search.display.streams import going_on
from mmsearch.search.study.workspace import Workspace, options_of

if TYPE_CHECKING:
    from rich.console import Console

    from mmsearch.tracking.journal.records import TrialRecord


def extend(  # noqa: PLR0913 (each is one flag)
    number: Annotated[
        int,
        typer.Argument(
            min=0, metavar="N", help="Trial number.", autocompletion=options.trial_numbers
        ),
    ],
    *,
    steps: Annotated[int, options.number("Number of further training steps.", min=1)],
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="Constant learning rate.", show_default="the trial's last"
        ),
    ] = None,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    tracking_uri: options.TrackingUri = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train a finished trial on from its final weights.

    The extension is recorded beside the trials of the search: nothing is
    proposed or chosen because of it, and it counts towards --trials only for a
    run with --count-extensions.
    Run the same command again to resume.
    """
    from mmsearch.search.cli.training import train_live  # noqa: PLC0415 (imports wait)
    from mmsearch.search.execution.coordinator import Limits  # noqa: PLC0415
    from mmsearch.search.execution.extend_job import Extend  # noqa: PLC0415
    from mmsearch.search.execution.runner import opened  # noqa: PLC0415
    from mmsearch.search.results.sync import sync_optuna  # noqa: PLC0415
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    session = Session.reopen(Workspace.at(workspace), study, tracking_uri=tracking_uri)
    job = Extend.of(session, number, steps, learning_rate)
    out = make_console()
    with going_on("the training"), opened(job) as earlier:
        result, interrupted_code = train_live(
            job,
            earlier,
            Limits(n_trials=1),
            1,
            out,
            noun="extensions",
            is_quiet=quiet,
            as_json=as_json,
        )
    try:
        sync_optuna(session.workspace, session.journal)
    except MMSearchError as error:
        where = options_of(session.journal)
        make_console(stderr=True).print(
            f"not in Optuna's storage yet: {error}; add it with: mmsearch sync{where}",
            style="yellow",
        )
    record = result.records[-1] if result.records else None
    if as_json:
        print_json(_to_json(session.journal.name, job.parent, record))
    else:
        where = "" if quiet else options_of(session.journal)
        _print_extension(out, job.parent, record, where)
    if result.ended_by == "interrupt":
        raise typer.Exit(interrupted_code)
    if record is None or not record.is_complete:
        raise typer.Exit(1)


def _print_extension(
    out: Console, parent: TrialRecord, record: TrialRecord | None, where: str
) -> None:
    """Print what an extension came to and, with the options `where`, the next command."""
    if record is None or record.outcome is None:
        out.print("it is still to be trained; resume it with the same command")
        return
    if not record.is_complete:
        print_wrapped(out, f"{record.name} failed: {record.outcome.reason}", style="red")
        return
    gap = (parent.dev_loss or 0.0) - (record.dev_loss or 0.0)
    print_wrapped(
        out,
        f"{record.name}: dev loss {record.dev_loss:.4f} after "
        f"{counted(record.spec.n_steps, 'further step')} at lr {record.spec.learning_rate:.3g}, "
        f"{abs(gap):.4f} nats {'better' if gap > 0 else 'worse'} than the trial's "
        f"{parent.dev_loss:.4f}",
    )
    if where:
        out.print(f"compare:  mmsearch trials{where}")


def _to_json(study: str, parent: TrialRecord, record: TrialRecord | None) -> dict[str, Any]:
    return {
        "study": study,
        "parent_trial": parent.number,
        "parent_dev_loss": parent.dev_loss,
        "extension": None if record is None else extension_json(record),
    }
