"""Train the trials of a job below the live display, for `run` and `confirm`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from mmsearch.errors import InputError
from mmsearch.search.display.console import make_console
from mmsearch.search.display.live import LiveDisplay
from mmsearch.search.execution.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mmsearch.search.execution.coordinator import Limits, SearchResult
    from mmsearch.search.protocols import Job
    from mmsearch.tracking.journal.records import TrialRecord


def train_live(  # noqa: PLR0913 (what is trained, and how it is shown)
    job: Job,
    earlier: Sequence[TrialRecord],
    limits: Limits,
    workers: int | str,
    out: Console,
    *,
    noun: str = "trials",
    is_quiet: bool,
    as_json: bool,
) -> tuple[SearchResult, int]:
    """Train a job's trials; return the result, and the exit code if it was interrupted.

    With `as_json`, stdout is kept for JSON, and messages go to stderr.
    """
    from mmsearch.search.execution.runner import train  # noqa: PLC0415 (imports wait)

    ended = [record for record in earlier if record.outcome]
    display = LiveDisplay(out, limits.n_trials, ended, is_quiet=is_quiet or as_json, noun=noun)
    say = make_console(stderr=True).print if as_json else display.say
    interrupts = Interrupts(say)
    with display:
        result = train(
            job,
            earlier,
            limits,
            workers=workers,
            observers=(display,),
            say=say,
            interrupts=interrupts,
        )
    return result, interrupts.exit_code


def dask_option(dask: str | None) -> str:
    """Return the option that names a cluster in a command to type; empty without one."""
    return f" --dask {shlex.quote(dask)}" if dask else ""


def chosen_workers(workers: int | None, dask: str | None) -> int | str:
    """Return the cluster to train on, or the number of processes: one for each core if not given.

    Raises:
        InputError: both were given.
    """
    if dask is not None and workers is not None:
        raise InputError(
            "--workers and --dask cannot be combined; the cluster sets the number of workers"
        )
    if dask is not None:
        return dask
    if workers is not None:
        return workers
    from joblib import cpu_count  # noqa: PLC0415 (slow; respects affinity and container limits)

    count: int = cpu_count()
    return count
