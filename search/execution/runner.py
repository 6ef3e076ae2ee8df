"""Run a job: start the workers, the uploaders and the coordinator, and shut them down."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
from functools import partial
from typing import TYPE_CHECKING

from mmsearch.errors import InputError, RefusedError
from mmsearch.search.execution.interrupts import Interrupts
from mmsearch.search.study.locks import own
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal.logs import logging_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from mmsearch.search.execution.coordinator import Limits, SearchResult
    from mmsearch.search.protocols import Job, Observer
    from mmsearch.search.study.space import Space
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.uploader import Uploader

_logger = logging.getLogger(__name__)

MAX_WORKERS = 1024
"""Worker processes; more are a typing error and would bring the machine down."""
OPEN_S = 20.0
"""Seconds to wait for the Optuna storage, in which somebody may have enqueued trials."""


@contextlib.contextmanager
def opened(job: Job) -> Iterator[list[TrialRecord]]:
    """Lock a job for this process, and read its trials.

    Raises:
        RefusedError: another process is training it.
        JournalError: a file is damaged.
    """
    journal = job.journal
    job.session.workspace.create()
    journal.create()
    given = (job.session.given_storage, job.session.given_tracking_uri)
    uris = [uri for uri in given if uri]
    with own(journal), logging_to(journal.folder / "logs", *uris):
        records = [
            record
            if record.outcome
            # A segment without its weights is trained again.
            else dataclasses.replace(record, curve=tuple(journal.resume(record.number)[0]))
            for record in job.records()
        ]
        # They stay, and Python need not look for garbage among them. What else is alive stays, too.
        gc.freeze()
        try:
            yield records
        finally:
            gc.unfreeze()


def train(  # noqa: PLR0913 (what is trained, and who hears of it)
    job: Job,
    earlier: Sequence[TrialRecord],
    limits: Limits,
    *,
    workers: int | str,
    observers: tuple[Observer, ...],
    say: Callable[[str], None],
    interrupts: Interrupts | None = None,
) -> SearchResult:
    """Train a job's trials until `limits`, and keep its views up to date.

    Args:
        job: the trials to train.
        earlier: the trials that `opened` returned.
        limits: when to end.
        workers: number of processes on this machine, with one torch thread each, or a Dask cluster.
        observers: receive every update of a trial.
        say: called with each line that the user should read.
        interrupts: signal handling, not entered yet; has the exit code afterwards.

    Raises:
        InputError: too many workers, no such cluster, or the URL is not that of an Optuna storage.
        RefusedError: the Optuna storage has another study of this name.
        MMSearchError: training cannot start or continue.
    """
    if isinstance(workers, int) and workers > MAX_WORKERS:
        raise InputError(f"--workers must be at most {MAX_WORKERS:,}, got {workers}")
    session, journal = job.session, job.journal
    with contextlib.ExitStack() as stack:
        # Imported while the workers start: each import takes a good part of a second.
        from mmsearch.search.execution.executor import make_executor  # noqa: PLC0415

        interrupts = stack.enter_context(interrupts or Interrupts(say))
        n_left = job.n_left(earlier)
        if isinstance(workers, int):
            workers = max(1, min(workers, n_left))
        pool = stack.enter_context(make_executor(workers, session.words, say, job.n_lanes))
        if n_left:
            pool.start()
        from mmsearch.search.execution.coordinator import Coordinator  # noqa: PLC0415
        from mmsearch.search.execution.virtual_time import VirtualClock  # noqa: PLC0415
        from mmsearch.search.execution.worker import run_segments  # noqa: PLC0415
        from mmsearch.search.results.baselines import BaselineCount  # noqa: PLC0415
        from mmsearch.search.results.publish import make_tracker  # noqa: PLC0415
        from mmsearch.tracking.uploader import IdleTime, Uploader  # noqa: PLC0415

        tracker = make_tracker(session.workspace, journal, session.file, session.tracking_uri)
        view = job.view()
        idle = IdleTime()
        # A confirmation's uploader reads the journal itself, since `earlier` lacks the trainings
        # that the current plan does not ask for.
        uploaders = [
            Uploader(
                tracker,
                journal,
                say,
                earlier if view else None,
                on_open=partial(session.keep, "tracking_uri") if view else lambda: None,
                is_idle=not n_left,
                receipt=journal.folder / "mlflow.json" if journal.kind == "trial" else None,
                idle=idle,
            )
        ]
        if view is not None:
            job.begin()
            on_open = partial(session.keep, "storage")
            uploaders.append(
                Uploader(view, journal, say, earlier, on_open=on_open, is_awaited=True, idle=idle)
            )
            stack.callback(uploaders[-1].stop)
            uploaders[-1].start()
            failed = uploaders[-1].wait_until_open(OPEN_S)
            if isinstance(failed, InputError | RefusedError):
                job.withdraw()
                raise failed
        enqueued = _usable(view.enqueued, job.settings.space, say) if view else []
        clock = VirtualClock(session.file.costs, session.corpus.vocabulary.size, job.decides)
        proposer = job.propose(clock.decided(earlier), enqueued)
        stack.callback(uploaders[0].stop)
        uploaders[0].start()
        baselines = BaselineCount(session, say)
        coordinator = Coordinator(
            proposer=proposer,
            earlier=earlier,
            settings=job.settings,
            journal=journal,
            executor=pool,
            run_segments=run_segments,
            clock=clock,
            n_slots=pool.n_slots,
            n_lanes=job.n_lanes,
            initial_weights=job.initial_weights,
            observers=(*uploaders, baselines, *observers),
            idle=idle,
        )
        trials = None
        try:
            pool.check()
            interrupts.phase(coordinator.stop, "stopping after the segments in flight")
            result = coordinator.run(limits)
            trials = result.records if journal.kind == "trial" else None
            return result
        finally:
            baselines.finish()
            _close(job, uploaders, trials, interrupts, say)


def _close(
    job: Job,
    uploaders: Iterable[Uploader],
    trials: Sequence[TrialRecord] | None,
    interrupts: Interrupts,
    say: Callable[[str], None],
) -> None:
    """Send the remaining updates and the study's summary; say what could not be sent."""
    from mmsearch.search.results.summary import summarise  # noqa: PLC0415 (slow)

    session, summary = job.session, None
    try:
        summary = summarise(session.journal, session.file, trials=trials)
    except Exception as error:
        # An error that ended the search must not be replaced by this one.
        _logger.info("no summary", exc_info=True)
        say(f"the study's summary cannot be made: {error}")
    for uploader in uploaders:
        interrupts.phase(uploader.abandon, "leaving the remaining uploads to the next run")
        if not uploader.close(summary):
            say(
                f"some results are not in {uploader.title} yet; upload them with: mmsearch sync"
                f"{options_of(session.journal)}{session.unsaved_options()}"
            )


def _usable(
    points: Iterable[Mapping[str, Any]], space: Space, say: Callable[[str], None]
) -> list[Mapping[str, Any]]:
    """Return the configurations within the space, and say which ones are not."""
    found: list[Mapping[str, Any]] = []
    for point in points:
        try:
            found.append(space.check_point(point))
        except InputError as error:
            say(f"an enqueued trial in Optuna's storage is skipped: {error}")
    return found
