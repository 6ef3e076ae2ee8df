"""A job done: workers, MLflow's mirror and the coordinator started, joined and ended."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from mmsearch.errors import InputError
from mmsearch.search.interrupts import Interrupts
from mmsearch.search.places import without_password
from mmsearch.search.workspace import own

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mmsearch.search.coordinator import Limits, Observer, Proposer, SearchResult
    from mmsearch.search.session import Session
    from mmsearch.search.settings import Settings
    from mmsearch.tracking.journal import Journal

MAX_WORKERS = 1024
"""Processes: more is a slip of the fingers, and would take the machine down."""


class Job(Protocol):
    """Trials to train: those of a search, or confirmations."""

    @property
    def session(self) -> Session:
        """The study they belong to."""

    @property
    def journal(self) -> Journal:
        """Where they are kept."""

    @property
    def settings(self) -> Settings:
        """What each of them is trained by, besides its hyperparameters and its seed."""

    def n_left(self) -> int:
        """Count those that are not trained yet."""

    def open(self, say: Callable[[str], None]) -> Proposer:
        """Open who proposes them; called once the workers are on their way.

        Args:
            say: told, in a line, what it has to wait for.
        """

    def guard(self) -> AbstractContextManager[None]:
        """Turn errors of who proposes them into ours."""


def train(
    job: Job,
    limits: Limits,
    *,
    n_workers: int,
    observers: tuple[Observer, ...],
    say: Callable[[str], None],
) -> SearchResult:
    """Train a job's trials until `limits`, in worker processes, shown in MLflow as they go.

    Args:
        job: what to train.
        limits: when to end.
        n_workers: processes, one torch thread each.
        observers: told of every trial's news.
        say: told, in a line, what a person should know.

    Raises:
        InputError: more workers are asked for than a machine can have.
        MMSearchError: it cannot begin or go on; says why.
    """
    if n_workers > MAX_WORKERS:
        raise InputError(f"--workers must be at most {MAX_WORKERS:,}, got {n_workers}")
    session, journal = job.session, job.journal
    session.workspace.create()
    journal.create()
    with own(journal), contextlib.ExitStack() as stack:
        # Imported once the workers are on their way: each of these takes a good part of a second.
        from mmsearch.search import worker  # noqa: PLC0415
        from mmsearch.search.executors import WorkerPool  # noqa: PLC0415

        interrupts = stack.enter_context(Interrupts(say))
        n_left = job.n_left()
        n_workers = max(1, min(n_workers, n_left))
        pool = stack.enter_context(WorkerPool(n_workers, worker.start, (session.words,)))
        if n_left:
            pool.start()
        from mmsearch.search.shown import make_tracker, summarise  # noqa: PLC0415
        from mmsearch.tracking.mirror import Mirror  # noqa: PLC0415

        mirror = Mirror(
            make_tracker(session.workspace, journal, session.file, session.tracking_uri),
            journal,
            on_behind=lambda why: say(
                f"MLflow is behind, and the work goes on: {why} "
                f"({without_password(session.tracking_uri)})"
            ),
        )
        from mmsearch.search.baselines import BaselineCount  # noqa: PLC0415
        from mmsearch.search.coordinator import Coordinator  # noqa: PLC0415

        with job.guard():
            proposer = stack.enter_context(contextlib.closing(job.open(say)))
        mirror.start()
        pool.check()
        baselines = BaselineCount(session, say)
        coordinator = Coordinator(
            proposer=proposer,
            settings=job.settings,
            journal=journal,
            executor=pool,
            run_segment=worker.run_segment,
            vocab_size=session.corpus.vocabulary.size,
            n_workers=n_workers,
            observers=(mirror, baselines, *observers),
        )
        try:
            interrupts.phase(coordinator.stop, "stopping after the segments in flight")
            with job.guard():
                result = coordinator.run(limits)
        finally:
            baselines.finish()
            summary = summarise(
                session.journal, session.file, has_importances=job.journal.kind == "trial"
            )
            interrupts.phase(mirror.abandon, "leaving MLflow as it is")
            if not mirror.close(summary):
                say("MLflow lacks a part of this study; fill it in with: mmsearch sync")
        return result
