"""The loop: ask for trials, send their segments to workers, write the journal, tell observers.

The journal is written first. The proposer and the observers (the display, and the threads that
fill Optuna's storage and MLflow) follow from it, so whatever kills the process, the next one goes
on from the journal alone.
"""

from __future__ import annotations

import queue
import time
import traceback
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.search.study import provenance
from mmsearch.tracking.journal.records import (
    Outcome,
    SegmentRecord,
    TrialRecord,
    TrialState,
    latest_ms,
    n_finished,
    undecided,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.execution.worker import SegmentResult
    from mmsearch.search.protocols import Observer, Proposer
    from mmsearch.search.study.settings import Settings
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import Failure

MAX_FAILURES_IN_A_ROW = 10
"""Failed trials after which the search stops: one setting is wrong for all of them."""
MAX_WORKER_DEATHS = 3
"""Times that one segment is tried again after its worker died."""
POLL_S = 0.2
"""Seconds after which a waiting loop looks at the clock and at Ctrl-C."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a search ends."""

    n_trials: int
    """Finished trials (complete or pruned) that the study shall have in all."""
    timeout_s: float | None = None
    """Seconds after which no trial begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """How a search ended."""

    n_finished: int
    """Trials of the study that are complete or pruned."""
    n_begun: int
    """Trials that this run began or went on with."""
    is_interrupted: bool
    """Whether it was asked to stop before it had its trials."""
    records: Sequence[TrialRecord]
    """All trials of the job by number, earlier ones included."""


@dataclass(slots=True)
class _Running:
    """A trial that has a segment with a worker."""

    record: TrialRecord
    weights: bytes | None
    n_deaths: int = 0

    @property
    def dev_losses(self) -> tuple[float, ...]:
        """Dev losses of its segments so far."""
        return tuple(segment.dev_loss for segment in self.record.curve)


@dataclass(slots=True)
class Coordinator:
    """Trains what is proposed, and alone writes the study's folder."""

    proposer: Proposer
    earlier: Sequence[TrialRecord]
    """Trials of the journal as the search begins; those without an outcome go on."""
    settings: Settings
    journal: Journal
    executor: Executor
    run_segment: Callable[[TrialSpec, tuple[float, ...], bytes | None], SegmentResult]
    """What the executor calls."""
    vocab_size: int
    n_workers: int
    observers: tuple[Observer, ...] = ()
    _running: dict[int, _Running] = field(init=False, default_factory=dict)
    _done: queue.SimpleQueue[tuple[int, Future[SegmentResult]]] = field(
        init=False, default_factory=queue.SimpleQueue
    )
    _n_failures: int = field(init=False, default=0)
    _n_finished: int = field(init=False, default=0)
    _n_begun: int = field(init=False, default=0)
    _records: dict[int, TrialRecord] = field(init=False, default_factory=dict)
    _n_left: int = field(init=False, default=0)
    """Trials in flight when the search was stopped."""
    _undecided: int | None = field(init=False, default=None)
    """The trial of an earlier process that may have to be pruned at its latest segment."""
    _is_stopping: bool = field(init=False, default=False)
    _last_ms: int = field(init=False, default=0)
    _versions: Mapping[str, str] = field(init=False, default_factory=provenance.versions)

    def stop(self) -> None:
        """End `run` after the segments in flight; may be called from a signal handler."""
        self._is_stopping = True

    def run(self, limits: Limits) -> SearchResult:
        """Search until the study has its trials, the time is up, or `stop` is called.

        Raises:
            MMSearchError: `MAX_FAILURES_IN_A_ROW` trials in a row failed, or the journal cannot
                be written.
        """
        deadline = None if limits.timeout_s is None else time.monotonic() + limits.timeout_s
        self._records = {record.number: record for record in self.earlier}
        # The clock of an earlier process may have been ahead.
        self._last_ms = max(map(latest_ms, self.earlier), default=0)
        left_over = [record for record in self.earlier if record.outcome is None]
        last = undecided(self.earlier)
        self._undecided = last.number if last else None
        self._n_finished = n_finished(self.earlier)
        while not self._is_stopping:
            while len(self._running) < self.n_workers and left_over:
                self._carry_on(left_over.pop(0))
            while (
                len(self._running) < self.n_workers
                and self._n_finished + len(self._running) < limits.n_trials
                and (deadline is None or time.monotonic() < deadline)
                and not self._is_stopping
                and self._begin()
            ):
                pass
            if not self._running:
                break
            self._handle_next()
        while self._running:
            self._handle_next()
        is_short = self._n_finished < limits.n_trials or bool(left_over) or self._n_left > 0
        return SearchResult(
            n_finished=self._n_finished,
            n_begun=self._n_begun,
            is_interrupted=self._is_stopping and is_short,
            records=[self._records[number] for number in sorted(self._records)],
        )

    def _begin(self) -> bool:
        """Begin a trial; False where none is proposed."""
        proposal = self.proposer.ask()
        if proposal is None:
            return False
        self._n_begun += 1
        number, spec = proposal.number, self.settings.trial_spec(proposal.point, proposal.seed)
        facts = {
            "started_ms": self._now_ms(),
            "n_parameters": spec.n_parameters(self.vocab_size),
            "versions": self._versions,
            **proposal.facts,
        }
        self.journal.start(number, spec, facts)
        record = TrialRecord(number=number, spec=spec, facts=facts)
        self._running[number] = _Running(record, None)
        self._show(record)
        self._submit(number)
        return True

    def _carry_on(self, record: TrialRecord) -> None:
        """Go on with a trial of an earlier process, from its last whole segment."""
        self._n_begun += 1
        curve, weights = self.journal.resume(record.number)
        record = replace(record, curve=tuple(curve))
        self._running[record.number] = _Running(record, weights)
        self._show(record)
        has_ended = record.spec.has_ended([segment.dev_loss for segment in curve])
        if record.number == self._undecided or has_ended:
            self._go_on(record.number)
        else:
            self._submit(record.number)

    def _submit(self, number: int) -> None:
        trial = self._running[number]
        losses = trial.dev_losses
        future = self.executor.submit(self.run_segment, trial.record.spec, losses, trial.weights)
        future.add_done_callback(lambda done: self._done.put((number, done)))

    def _handle_next(self) -> None:
        """Wait for a segment, a little, and take it in."""
        try:
            number, future = self._done.get(timeout=POLL_S)
        except queue.Empty:
            return
        trial = self._running[number]
        try:
            result = future.result()
        except BrokenExecutor:
            trial.n_deaths += 1
            if trial.n_deaths <= MAX_WORKER_DEATHS:
                if self._is_stopping:
                    self._leave(number)
                else:
                    self._submit(number)
                return
            times = f"{trial.n_deaths} times in one segment"
            reason = f"its worker process died {times}; is there enough memory?"
            self._fail(number, "worker_died", reason)
        except MMSearchError as error:
            self._fail(number, "diverged" if _is_divergence(error) else "error", str(error))
        except Exception as error:  # noqa: BLE001 (recorded with its traceback; the search goes on)
            self._fail(number, "error", _reason(error), _traceback(error))
        else:
            self._take(number, result)

    def _take(self, number: int, result: SegmentResult) -> None:
        """Write a segment down, report it, and end the trial or go on with it."""
        trial = self._running[number]
        segment = len(trial.record.curve) + 1
        line = SegmentRecord(
            segment=segment,
            step=trial.record.spec.segment_end(segment),
            train=result.train,
            dev_loss=result.dev_loss,
            dev_parts=result.dev_parts,
            train_loss=result.train_loss,
            wall_s=result.wall_s,
            ended_ms=self._now_ms(),
            weights_sha256=result.weights_sha256,
        )
        self.journal.append(number, line, result.weights, result.samples)
        trial.record = replace(trial.record, curve=(*trial.record.curve, line))
        trial.weights = result.weights
        trial.n_deaths = 0
        self.proposer.report(number, line.step, line.dev_loss)
        self._go_on(number)

    def _go_on(self, number: int) -> None:
        """Complete a trial, prune it, or send its next segment."""
        trial = self._running[number]
        if trial.record.spec.has_ended(trial.dev_losses):
            self._finish(number, Outcome(state=TrialState.COMPLETE, ended_ms=self._now_ms()))
        elif trial.record.curve and self.proposer.should_prune(number):
            step, planned = trial.record.curve[-1].step, trial.record.spec.n_steps
            reason = f"pruned at step {step} of {max(step, planned)}"
            self._finish(
                number, Outcome(state=TrialState.PRUNED, reason=reason, ended_ms=self._now_ms())
            )
        else:
            self._show(trial.record)
            if self._is_stopping:
                self._leave(number)
            else:
                self._submit(number)

    def _leave(self, number: int) -> None:
        """Leave a trial to the next process."""
        del self._running[number]
        self._n_left += 1

    def _fail(self, number: int, failure: Failure, reason: str, error: str = "") -> None:
        outcome = Outcome(
            state=TrialState.FAIL, failure=failure, reason=reason, ended_ms=self._now_ms()
        )
        self._finish(number, outcome, error)

    def _finish(self, number: int, outcome: Outcome, error: str = "") -> None:
        record = replace(self._running.pop(number).record, outcome=outcome)
        self.journal.finish(number, outcome, error=error)
        self.proposer.tell(record)
        self._show(record)
        if outcome.state != TrialState.FAIL:
            self._n_finished += 1
            self._n_failures = 0
            return
        self._n_failures += 1
        if self._n_failures >= MAX_FAILURES_IN_A_ROW:
            raise MMSearchError(
                f"{self._n_failures} trials in a row failed, the last one, trial {number}, since "
                f"{outcome.reason}; change [space] or the training settings in a new --study"
            )

    def _now_ms(self) -> int:
        """Return the Unix time in milliseconds; no two events of a search have the same."""
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        return self._last_ms

    def _show(self, record: TrialRecord) -> None:
        self._records[record.number] = record
        for observer in self.observers:
            observer.show(record)


def _is_divergence(error: MMSearchError) -> bool:
    from mmsearch.model.training import DivergedError  # noqa: PLC0415 (imports torch, as the error has)

    return isinstance(error, DivergedError)


def _reason(error: BaseException) -> str:
    """Say an error in one line; torch adds where in its own code it was."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
