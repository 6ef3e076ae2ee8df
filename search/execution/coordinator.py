"""The loop of a search: ask for trials, send segments to workers, write the journal, prune.

The journal is written first, and everything else follows from it: the proposer, the display and
the views in Optuna's storage and MLflow. Whatever kills the process, the next one resumes from the
journal alone.
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
"""Failed trials in a row after which the search stops: some setting is wrong for all of them."""
MAX_WORKER_DEATHS = 3
"""Times that a segment is retried after its worker process died."""
POLL_S = 0.2
"""Seconds between checks for a timeout or Ctrl-C while no segment ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a search ends."""

    n_trials: int
    """Total number of finished trials (complete or pruned), earlier runs included."""
    timeout_s: float | None = None
    """Seconds after which no new trial starts; None for no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """How a search ended."""

    n_finished: int
    """Finished trials of the study, complete or pruned."""
    n_begun: int
    """Trials that this run started or resumed."""
    is_interrupted: bool
    """Whether the run was stopped before the study had its trials."""
    records: Sequence[TrialRecord]
    """All trials of the job by number, those of earlier runs included."""


@dataclass(slots=True)
class _Running:
    """A trial whose next segment is being trained."""

    record: TrialRecord
    weights: bytes | None
    n_deaths: int = 0

    @property
    def dev_losses(self) -> tuple[float, ...]:
        """Dev losses of its segments so far, in nats per character."""
        return tuple(segment.dev_loss for segment in self.record.curve)


@dataclass(slots=True)
class Coordinator:
    """Trains the proposed trials; the only writer of the study's folder."""

    proposer: Proposer
    earlier: Sequence[TrialRecord]
    """Trials in the journal when the search starts; those without an outcome are resumed."""
    settings: Settings
    journal: Journal
    executor: Executor
    run_segment: Callable[[TrialSpec, tuple[float, ...], bytes | None], SegmentResult]
    """Function that the executor calls, with a spec, the dev losses so far and the weights."""
    vocab_size: int
    n_workers: int
    initial_weights: bytes | None = None
    """Weights that every trial starts from, as safetensors; None where each draws its own."""
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
    """Trials that were being trained when the search was stopped."""
    _undecided: int | None = field(init=False, default=None)
    """The earlier trial whose latest segment may not have been put to the pruner yet."""
    _is_stopping: bool = field(init=False, default=False)
    _last_ms: int = field(init=False, default=0)
    _versions: Mapping[str, str] = field(init=False, default_factory=provenance.versions)

    def stop(self) -> None:
        """Make `run` return after the segments in flight; safe to call from a signal handler."""
        self._is_stopping = True

    def run(self, limits: Limits) -> SearchResult:
        """Search until the study has its trials, the time is up or `stop` is called.

        Raises:
            MMSearchError: `MAX_FAILURES_IN_A_ROW` trials in a row failed, or the journal cannot
                be written.
        """
        deadline = None if limits.timeout_s is None else time.monotonic() + limits.timeout_s
        self._records = {record.number: record for record in self.earlier}
        # An earlier process may have had a clock that was ahead.
        self._last_ms = max(map(latest_ms, self.earlier), default=0)
        unfinished = [record for record in self.earlier if record.outcome is None]
        last = undecided(self.earlier)
        self._undecided = last.number if last else None
        self._n_finished = n_finished(self.earlier)
        while not self._is_stopping:
            while len(self._running) < self.n_workers and unfinished:
                self._resume(unfinished.pop(0))
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
            self._handle_result()
        while self._running:
            self._handle_result()
        is_short = self._n_finished < limits.n_trials or bool(unfinished) or self._n_left > 0
        return SearchResult(
            n_finished=self._n_finished,
            n_begun=self._n_begun,
            is_interrupted=self._is_stopping and is_short,
            records=[self._records[number] for number in sorted(self._records)],
        )

    def _begin(self) -> bool:
        """Start the next trial; return False if there is none."""
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
        self._running[number] = _Running(record, self.initial_weights)
        self._show(record)
        self._submit(number)
        return True

    def _resume(self, record: TrialRecord) -> None:
        """Resume a trial of an earlier process from its last complete segment."""
        self._n_begun += 1
        curve, weights = self.journal.resume(record.number)
        record = replace(record, curve=tuple(curve))
        self._running[record.number] = _Running(record, weights or self.initial_weights)
        self._show(record)
        has_ended = record.spec.has_ended([segment.dev_loss for segment in curve])
        if record.number == self._undecided or has_ended:
            self._continue(record.number)
        else:
            self._submit(record.number)

    def _submit(self, number: int) -> None:
        trial = self._running[number]
        losses = trial.dev_losses
        future = self.executor.submit(self.run_segment, trial.record.spec, losses, trial.weights)
        future.add_done_callback(lambda done: self._done.put((number, done)))

    def _handle_result(self) -> None:
        """Wait up to `POLL_S` for a segment, and process its result."""
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
            self._record(number, result)

    def _record(self, number: int, result: SegmentResult) -> None:
        """Record a finished segment and report it to the proposer."""
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
        self._continue(number)

    def _continue(self, number: int) -> None:
        """Complete a trial, prune it, or submit its next segment."""
        trial = self._running[number]
        if trial.record.spec.has_ended(trial.dev_losses):
            self._finish(number, Outcome(state=TrialState.COMPLETE, ended_ms=self._now_ms()))
        elif trial.record.curve and self.proposer.should_prune(number):
            self._prune(number)
        else:
            self._show(trial.record)
            if self._is_stopping:
                self._leave(number)
            else:
                self._submit(number)

    def _prune(self, number: int) -> None:
        record = self._running[number].record
        step = record.curve[-1].step
        reason = f"pruned at step {step} of {max(step, record.spec.n_steps)}"
        self._finish(
            number, Outcome(state=TrialState.PRUNED, reason=reason, ended_ms=self._now_ms())
        )

    def _leave(self, number: int) -> None:
        """Leave a trial for the next process to resume."""
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
        """Return the Unix time in ms, later than that of any earlier event of the search."""
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
    """Return an error in one line; torch appends where in its own code it was raised."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
