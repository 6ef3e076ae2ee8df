"""`mmsearch replay`: train a trial again and compare it with its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.errors import InputError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.study.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

    from mmsearch.search.execution.replay import Replay


def replay(
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
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    as_json: options.Json = False,
) -> None:
    """Train a trial again from its stored spec, and compare it with its record.

    With the same versions and processor, the result must be the same bit for
    bit; otherwise the dev losses must agree within a tolerance.
    """
    from mmsearch.search.execution.replay import TOLERANCE_NATS  # noqa: PLC0415 (imports torch)
    from mmsearch.search.execution.replay import replay as train_again  # noqa: PLC0415
    from mmsearch.search.study.session import Session  # noqa: PLC0415

    if number is not None and extension is not None:
        raise InputError("give the number of a trial or --extension, but not both")
    result = train_again(Session.reopen(Workspace.at(workspace), study), number, extension)
    if as_json:
        print_json(_to_json(result))
    else:
        _print_replay(make_console(), result, TOLERANCE_NATS)
    if not result.is_reproduced:
        raise typer.Exit(1)


def _print_replay(out: Console, replay: Replay, tolerance: float) -> None:
    """Print whether a trial was reproduced, and how it was compared."""
    name, n = replay.record.name, len(replay.record.curve)
    for what, (then, now) in replay.changed.items():
        out.print(f"{what}: {then} when recorded, {now} now", style="yellow")
    if replay.is_identical:
        out.print(f"{name} is reproduced bit for bit: {n} of {n} segments are equal")
    elif replay.is_reproduced:
        out.print(
            f"{name} is reproduced within {tolerance:g} nats: over {n} segments, dev losses "
            f"differ by at most {replay.max_gap_nats:.1g}"
        )
    else:
        _print_difference(out, replay)
    if replay.end and replay.is_reproduced:
        out.print(f"it also diverged at the same step: {replay.end}")


def _print_difference(out: Console, replay: Replay) -> None:
    """Print where a trial differs from its record."""
    out.print(f"{replay.record.name} is not reproduced:", style="red")
    n, n_equal = len(replay.record.curve), sum(segment.is_equal for segment in replay.segments)
    lines = [f"{n_equal} of {n} segments are equal"]
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
