"""`mmsearch replay`: train a trial again and compare it with its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.counts import counted
from mmsearch.errors import InputError
from mmsearch.search.cli import options
from mmsearch.search.cli.training import chosen_workers
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.study.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from mmsearch.search.execution.replay import Replay
    from mmsearch.search.study.session import Session


def replay(  # noqa: PLR0913 (each is one flag)
    number: Annotated[
        int | None,
        typer.Argument(
            min=0,
            metavar="N",
            help="Trial number.",
            show_default="the chosen model",
            autocompletion=options.trial_numbers,
        ),
    ] = None,
    *,
    extension: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Number of an extension.", show_default="none"),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Search again, and name the first trial that differs.",
            show_default=False,
        ),
    ] = False,
    workers: options.Workers = None,
    dask: options.Dask = None,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    as_json: options.Json = False,
) -> None:
    """Train a trial again from its stored spec, and compare it with its record.

    With the same versions and processor, the result must be the same bit for
    bit; otherwise the dev losses must agree within a tolerance. With --search,
    all trials are proposed, trained and pruned again, which takes as long as
    the search did.
    """
    from mmsearch.search.execution.replay import TOLERANCE_NATS  # noqa: PLC0415 (imports torch)
    from mmsearch.search.execution.replay import replay as train_again  # noqa: PLC0415
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    if (number is not None) + (extension is not None) + whole > 1:
        raise InputError("give one of the number of a trial, --extension and --search")
    session = Session.reopen(Workspace.at(workspace), study)
    if whole:
        _replay_search(session, chosen_workers(workers, dask), as_json=as_json)
        return
    # One segment needs the one before it.
    training = chosen_workers(1 if dask is None else workers, dask)
    say = make_console(stderr=True).print
    result = train_again(session, number, extension, training, say)
    if as_json:
        print_json(_to_json(result))
    else:
        _print_replay(make_console(), result, TOLERANCE_NATS)
    if not result.is_reproduced:
        raise typer.Exit(1)


def _replay_search(session: Session, workers: int | str, *, as_json: bool) -> None:
    """Search again, and print whether all trials are as recorded."""
    from mmsearch.search.display.live import LiveDisplay  # noqa: PLC0415 (imports wait)
    from mmsearch.search.execution.replay_search import replay_search  # noqa: PLC0415

    out = make_console()
    display = LiveDisplay(out, session.file.n_trials, [], is_quiet=as_json)
    with display:
        result = replay_search(session, workers, (display,), display.say)
    parting = None if result.parting is None else result.parting.number
    if as_json:
        print_json(
            {
                "n_trials": result.n_trials,
                "is_reproduced": parting is None,
                "changed": {name: list(pair) for name, pair in result.changed.items()},
                "parting_trial": parting,
                "difference": result.difference,
            }
        )
    else:
        _print_changes(out, result.changed)
        how = "within the tolerance" if result.changed else "bit for bit"
        if parting is None:
            n = counted(result.n_trials, "trial is", "trials are")
            out.print(f"the search is reproduced {how}: {n} as recorded")
        else:
            out.print(f"the search differs from its record from trial {parting} on:", style="red")
            out.print(f"  {result.difference}")
    if parting is not None:
        raise typer.Exit(1)


def _print_changes(out: Console, changed: Mapping[str, tuple[str, str]]) -> None:
    for what, (then, now) in changed.items():
        out.print(f"{what}: {then} when recorded, {now} now", style="yellow")


def _print_replay(out: Console, replay: Replay, tolerance: float) -> None:
    """Print whether a trial was reproduced, and how it was compared."""
    name, n = replay.record.name, len(replay.record.curve)
    _print_changes(out, replay.changed)
    if replay.is_identical:
        equal = counted(n, "segment is", "segments are")
        out.print(f"{name} is reproduced bit for bit: {n} of {equal} equal")
    elif replay.is_reproduced:
        out.print(
            f"{name} is reproduced within {tolerance:g} nats: over {counted(n, 'segment')}, dev "
            f"losses differ by at most {replay.max_gap_nats:.1g}"
        )
    else:
        _print_difference(out, replay)
    if replay.end and replay.is_reproduced:
        out.print(f"it also diverged at the same step: {replay.end}")


def _print_difference(out: Console, replay: Replay) -> None:
    """Print where a trial differs from its record."""
    out.print(f"{replay.record.name} is not reproduced:", style="red")
    n, n_equal = len(replay.record.curve), sum(segment.is_equal for segment in replay.segments)
    lines = [f"{n_equal} of {counted(n, 'segment is', 'segments are')} equal"]
    if replay.parting_step is not None:
        last = replay.segments[-1]
        lines.append(f"the first difference is at or before step {replay.parting_step}")
        lines.append(
            f"dev loss at step {last.step}: {last.then:.6f} when recorded, {last.now:.6f} now"
        )
    if replay.end != replay.recorded_end:
        lines.append(f"when recorded: {replay.recorded_end or 'it did not diverge'}")
        lines.append(f"now: {replay.end or 'it does not diverge'}")
    if replay.changed:
        lines.append(
            "other versions or hardware can cause this at a learning rate that amplifies rounding"
        )
    for line in lines:
        out.print(f"  {line}")


def _to_json(replay: Replay) -> dict[str, Any]:
    facts = replay.record.facts
    return {
        "model": replay.record.name,
        "trial": facts.get("trial", facts.get("parent_trial", replay.record.number)),
        "dev_loss": replay.record.dev_loss,
        "is_reproduced": replay.is_reproduced,
        "is_identical": replay.is_identical,
        "compared": "within a tolerance" if replay.changed else "bit for bit",
        "changed": {name: list(pair) for name, pair in replay.changed.items()},
        "n_segments": len(replay.record.curve),
        "n_equal_segments": sum(segment.is_equal for segment in replay.segments),
        "max_gap_nats": replay.max_gap_nats,
        "parting_step": replay.parting_step,
        "recorded_end": replay.recorded_end,
        "end": replay.end,
    }
