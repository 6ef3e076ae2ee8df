"""Replay a whole search: propose, train and prune again, and compare with the record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmsearch.counts import counted
from mmsearch.errors import RefusedError
from mmsearch.search.execution.coordinator import Coordinator, Limits
from mmsearch.search.execution.executor import make_executor
from mmsearch.search.execution.replay import MATTERS, TOLERANCE_NATS
from mmsearch.search.execution.search_job import Search
from mmsearch.search.execution.virtual_time import STARTED_NS, VirtualClock
from mmsearch.search.execution.worker import run_segments
from mmsearch.search.optimizer.optuna_study import ENQUEUED, RUNNING, OptunaProposer
from mmsearch.search.study import provenance
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import n_finished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mmsearch.search.protocols import Observer
    from mmsearch.search.study.session import Session
    from mmsearch.tracking.journal.records import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchReplay:
    """The result of replaying a search."""

    n_trials: int
    """Trials in the record."""
    changed: Mapping[str, tuple[str, str]]
    """Versions that differ, as (then, now); without any, bits must be equal."""
    parting: TrialRecord | None
    """The first trial that differs, as recorded; None if none does."""
    difference: str
    """How it differs; empty if none does."""


def replay_search(
    session: Session,
    workers: int | str,
    observers: tuple[Observer, ...],
    say: Callable[[str], None],
) -> SearchReplay:
    """Search again from the study's settings, seed and words, in a temporary folder.

    Args:
        session: the study, which is only read.
        workers: number of processes on this machine, or a Dask cluster.
        observers: receive every update of a trial.
        say: called with each line that the user should read.

    Raises:
        RefusedError: a trial has not ended, or is of a version without virtual time.
        MMSearchError: training cannot start or continue.
    """
    name, then = session.journal.name, session.journal.records()
    if not then or not all(record.outcome for record in then):
        raise RefusedError(
            f"study {name!r} has trials that have not ended; resume it first: "
            f"mmsearch run --trials {session.file.n_trials}{options_of(session.journal)}"
        )
    if not all(STARTED_NS in record.facts for record in then):
        raise RefusedError(
            f"study {name!r} has trials of version 0.2 or earlier, whose order was not recorded; "
            f"train one of them again with: mmsearch replay N{options_of(session.journal)}"
        )
    job, settings = Search(session), session.file.settings
    clock = VirtualClock(session.file.costs, session.corpus.vocabulary.size, job.decides)
    if isinstance(workers, int):
        workers = min(workers, settings.lanes)
    with (
        files.scratch_folder() as folder,
        make_executor(workers, session.words, say) as pool,
    ):
        pool.start()
        journal = Journal(folder / name)
        journal.create()
        for n_trials in _stages(then):
            earlier = journal.records()
            queue = [record.facts[ENQUEUED] for record in then[len(earlier) :]]
            Coordinator(
                proposer=OptunaProposer(name, settings, earlier, queue),
                earlier=earlier,
                settings=settings,
                journal=journal,
                executor=pool,
                run_segments=run_segments,
                clock=clock,
                n_slots=pool.n_slots,
                n_lanes=settings.lanes,
                observers=observers,
            ).run(Limits(n_trials=n_trials))
        now = {record.number: record for record in journal.records()}
    versions = then[0].facts["versions"], provenance.versions()
    changed = {
        each: (str(versions[0].get(each, "unknown")), versions[1][each])
        for each in (*MATTERS, "optuna")
        if versions[0].get(each) != versions[1][each]
    }
    for record in then:
        found = _difference(record, now.get(record.number), is_exact=not changed)
        if found:
            return SearchReplay(
                n_trials=len(then), changed=changed, parting=record, difference=found
            )
    return SearchReplay(n_trials=len(then), changed=changed, parting=None, difference="")


def _stages(records: Sequence[TrialRecord]) -> list[int]:
    """Return each `--trials` that the study was searched to.

    A trial that began while no other one was running may be the first of a larger `--trials`.
    """
    begun = [n for n, record in enumerate(records) if n and not record.facts[RUNNING]]
    return [*(n_finished(records[:n]) for n in begun), n_finished(records)]


def _difference(then: TrialRecord, now: TrialRecord | None, *, is_exact: bool) -> str:
    """Describe how a trial differs from its record; return an empty text if it does not."""
    if now is None:
        return "it is not proposed again"
    for name, value in then.spec.to_json().items():
        again = now.spec.to_json()[name]
        if not _agree(value, again, 0 if is_exact else 1e-6 * abs(value)):
            return f"{name} {value} was proposed, and {again} now"
    for before, after in zip(then.curve, now.curve, strict=False):
        is_near = _agree(before.dev_loss, after.dev_loss, 0 if is_exact else TOLERANCE_NATS)
        if not is_near or (is_exact and before.weights_sha256 != after.weights_sha256):
            return (
                f"its dev loss at step {before.step} was {before.dev_loss:.6f}, and is "
                f"{after.dev_loss:.6f} now"
            )
    if (then.state, len(then.curve)) != (now.state, len(now.curve)):
        return f"it was {_end(then)}, and is {_end(now)} now"
    return ""


def _agree(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=tolerance)
    return bool(one == other)


def _end(record: TrialRecord) -> str:
    return f"{record.state} after {counted(len(record.curve), 'evaluation')}"
