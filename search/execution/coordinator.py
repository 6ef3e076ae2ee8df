"""The loop of a search: ask for trials, send segments to workers, write the journal, prune.

The journal is written first, and everything else follows from it: the proposer, the display and
the views in Optuna's storage and MLflow. Whatever kills the process, the next one resumes from the
journal alone.
"""

from __future__ import annotations

import heapq
import math
import queue
import time
import traceback
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from mmsearch.errors import MMSearchError
from mmsearch.search.execution.executor import CallLostError
from mmsearch.search.execution.virtual_time import BEGINNING, STARTED_NS, Event
from mmsearch.search.study import provenance
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal.records import (
    Outcome,
    SegmentRecord,
    TrialRecord,
    TrialState,
    n_finished,
)
from mmsearch.tracking.uploader import IdleTime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor, Future

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.execution.virtual_time import VirtualClock
    from mmsearch.search.execution.worker import CallResult
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
N_WRITERS = 8
"""Threads that write segments into the journal. Each write waits for the disk; in one thread, these
waits would take most of the coordinator's time on a large cluster."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a search ends."""

    n_trials: int
    """Total number of finished trials (complete or pruned), earlier runs included."""
    timeout_s: float | None = None
    """Seconds after which the search stops, as after Ctrl-C; None for no limit."""


EndedBy = Literal["trials", "timeout", "interrupt"]
"""The study had its trials, or nothing was left to train; the time was up; or `stop` was called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """How a search ended."""

    n_finished: int
    """Finished trials of the study, complete or pruned."""
    n_begun: int
    """Trials that this run started or resumed."""
    ended_by: EndedBy
    """What ended the run."""
    records: Sequence[TrialRecord]
    """All trials of the job by number, those of earlier runs included."""


@dataclass(slots=True)
class _Running:
    """A trial that has started and not ended."""

    record: TrialRecord
    weights: bytes | None
    n_decided: int = 0
    """Segments that have been reported and decided on."""
    due_segment: int = 0
    """Next segment at which it ends, is pruned or goes on."""
    due: Event = BEGINNING
    """When that is."""
    failure: tuple[Failure, str, str] | None = None
    """Kind, reason and traceback, if its next segment failed; decided on when the next decision is
    due, as nobody knows before that there is one."""
    n_deaths: int = 0
    """Deaths of workers since its last segment."""
    has_died: bool = False
    """Whether a worker died in one of its calls, each of which trains one segment from then on."""

    @property
    def dev_losses(self) -> tuple[float, ...]:
        """Dev losses of its segments so far, in nats per character."""
        return tuple(segment.dev_loss for segment in self.record.curve)

    @property
    def n_segments_a_call(self) -> int:
        """The most segments that the next call may train: those before the next decision."""
        return 1 if self.has_died else self.due_segment - len(self.record.curve)

    @property
    def is_known(self) -> bool:
        """Whether everything is known that its next decision needs."""
        return self.failure is not None or self.due_segment <= len(self.record.curve)


@dataclass(frozen=True, slots=True)
class _Written:
    """The segments of a call, which are in the journal."""

    lines: tuple[SegmentRecord, ...]
    weights: bytes


@dataclass(slots=True)
class Coordinator:
    """Trains the proposed trials; the only writer of the study's folder.

    Workers train what has been decided, in any order. Decisions are made in the order of virtual
    time: a trial whose turn has not come waits for the others.
    """

    proposer: Proposer
    earlier: Sequence[TrialRecord]
    """Trials in the journal when the search starts; those without an outcome are resumed."""
    settings: Settings
    journal: Journal
    executor: Executor
    run_segments: Callable[[TrialSpec, tuple[float, ...], bytes | None, int], CallResult]
    """Function that the executor calls; as `worker.run_segments`."""
    clock: VirtualClock
    n_slots: Callable[[], int]
    """Returns how many segments the executor can train at once now."""
    n_lanes: int | None
    """Trials that run at once; None if none depends on another: as many as slots, and each ends
    when it has been trained."""
    initial_weights: bytes | None = None
    """Weights that every trial starts from, as safetensors; None where each draws its own."""
    observers: tuple[Observer, ...] = ()
    idle: IdleTime = field(default_factory=IdleTime)
    """Counts the time for which it waits for results."""
    _running: dict[int, _Running] = field(init=False, default_factory=dict)
    _ready: list[Event] = field(init=False, default_factory=list)
    """Heap of the segments that may be trained, by when they end."""
    _done: queue.SimpleQueue[tuple[int, _Written | BaseException]] = field(
        init=False, default_factory=queue.SimpleQueue
    )
    """Trials whose calls have ended, with the segments or the call's error."""
    _write_error: BaseException | None = field(init=False, default=None)
    """Why the journal could not be written."""
    _n_in_flight: int = field(init=False, default=0)
    _latest: Event = field(init=False, default=BEGINNING)
    """The latest event that was decided."""
    _n_failures: int = field(init=False, default=0)
    _n_finished: int = field(init=False, default=0)
    _n_begun: int = field(init=False, default=0)
    _records: dict[int, TrialRecord] = field(init=False, default_factory=dict)
    _has_all: bool = field(init=False, default=False)
    """Whether there is nothing left to propose."""
    _is_stopping: bool = field(init=False, default=False)
    _versions: Mapping[str, str] = field(init=False, default_factory=provenance.versions)

    def stop(self) -> None:
        """Make `run` return after the segments in flight; safe to call from a signal handler."""
        self._is_stopping = True

    def run(self, limits: Limits) -> SearchResult:
        """Search until the study has its trials, the time is up or `stop` is called.

        Raises:
            MMSearchError: `MAX_FAILURES_IN_A_ROW` trials in a row failed, the journal cannot be
                written, or the executor is lost.
        """
        with ThreadPoolExecutor(N_WRITERS, "journal") as writers:
            return self._run(limits, writers)

    def _run(self, limits: Limits, writers: ThreadPoolExecutor) -> SearchResult:
        timeout_s = math.inf if limits.timeout_s is None else limits.timeout_s
        deadline = time.monotonic() + timeout_s
        self._records = {record.number: record for record in self.earlier}
        self._latest = self.clock.latest(self.earlier)
        self._n_finished = n_finished(self.earlier)
        for record in self.earlier:
            if record.outcome is None:
                self._resume(record)
        while True:
            is_late = time.monotonic() >= deadline
            must_stop = self._is_stopping or is_late
            while self._has_free_lane(limits) and not must_stop:
                self._begin()
            # The next trial is proposed from what is known now, also if that is by a later process.
            is_cut = self.n_lanes is not None and self._has_free_lane(limits)
            if not is_cut and self._decide_next():
                continue
            if not must_stop:
                self._submit(writers)
            if not self._n_in_flight and (must_stop or not self._ready):
                break
            self._handle_result()
        ended_by: EndedBy = "trials"
        if self._n_finished < limits.n_trials or self._running:
            ended_by = "interrupt" if self._is_stopping else "timeout" if is_late else "trials"
        return SearchResult(
            n_finished=self._n_finished,
            n_begun=self._n_begun,
            ended_by=ended_by,
            records=[self._records[number] for number in sorted(self._records)],
        )

    def _has_free_lane(self, limits: Limits) -> bool:
        """Return whether another trial is wanted now."""
        n_running = len(self._running)
        return (
            not self._has_all
            and n_running < (self.n_lanes or max(1, self.n_slots()))
            and self._n_finished + n_running < limits.n_trials
        )

    def _begin(self) -> None:
        """Start the next trial, if there is one."""
        proposal = self.proposer.ask()
        if proposal is None:
            self._has_all = True
            return
        self._n_begun += 1
        number, spec = proposal.number, self.settings.trial_spec(proposal.point, proposal.seed)
        facts = {
            "started_ms": _now_ms(),
            "n_parameters": spec.n_parameters(self.clock.vocab_size),
            "versions": self._versions,
            **proposal.facts,
        }
        if self.n_lanes is not None:
            facts[STARTED_NS] = self._latest.time_ns
        self.journal.start(number, spec, facts)
        trial = _Running(TrialRecord(number=number, spec=spec, facts=facts), self.initial_weights)
        self._running[number] = trial
        self._show(trial.record)
        self._go_on(trial)

    def _resume(self, record: TrialRecord) -> None:
        """Resume a trial of an earlier process from its last complete segment."""
        self._n_begun += 1
        curve, weights = self.journal.resume(record.number)
        record = replace(record, curve=tuple(curve))
        n_decided = self.clock.n_decided(record, self._latest)
        trial = _Running(record, weights or self.initial_weights, n_decided)
        self._running[record.number] = trial
        self._show(record)
        self._go_on(trial)

    def _go_on(self, trial: _Running) -> None:
        """Find a trial's next decision, and have it trained until then."""
        record = trial.record
        trial.due_segment = self.clock.next_due(record, trial.n_decided)
        trial.due = self.clock.segment(record, trial.due_segment)
        if not trial.is_known:
            self._make_ready(trial)

    def _make_ready(self, trial: _Running) -> None:
        end = self.clock.segment(trial.record, len(trial.record.curve) + 1)
        heapq.heappush(self._ready, end)

    def _submit(self, writers: ThreadPoolExecutor) -> None:
        """Give the workers what may be trained, the earliest first."""
        n_slots = self.n_slots()
        while self._ready and self._n_in_flight < n_slots:
            number = heapq.heappop(self._ready).number
            trial = self._running[number]
            future = self.executor.submit(
                self.run_segments,
                trial.record.spec,
                trial.dev_losses,
                trial.weights,
                trial.n_segments_a_call,
            )
            future.add_done_callback(partial(self._note, writers, number))
            self._n_in_flight += 1

    def _note(self, writers: ThreadPoolExecutor, number: int, future: Future[CallResult]) -> None:
        """Write the segments of a call that has ended into the journal; does not wait."""
        try:
            writers.submit(self._write, number, future)
        except RuntimeError as error:  # unless the search has ended, when nobody reads it
            failed = MMSearchError("no thread can be started that writes the journal")
            failed.__cause__ = error
            self._fail(number, failed)

    def _write(self, number: int, future: Future[CallResult]) -> None:
        try:
            self._done.put((number, self._written(number, future)))
        except BaseException as error:  # noqa: BLE001 (raised again)
            self._fail(number, error)

    def _fail(self, number: int, error: BaseException) -> None:
        """Have the coordinator's thread raise an error."""
        self._write_error = error
        self._done.put((number, error))

    def _written(self, number: int, future: Future[CallResult]) -> _Written | Exception:
        """Write the segments of a call, and return them; or return its error."""
        try:
            result = future.result()
        except Exception as error:  # noqa: BLE001 (handled with the others)
            return error
        return _Written(self._append(self._running[number].record, result), result.weights)

    def _handle_result(self) -> None:
        """Wait up to `POLL_S` for a call to end, and process its result."""
        began_s = time.monotonic()
        try:
            number, answer = self._done.get(timeout=POLL_S)
        except queue.Empty:
            return
        finally:
            self.idle.seconds += time.monotonic() - began_s
        if self._write_error is not None:
            raise self._write_error
        self._n_in_flight -= 1
        trial = self._running[number]
        match answer:
            case _Written():
                trial.record = replace(trial.record, curve=(*trial.record.curve, *answer.lines))
                trial.weights = answer.weights
                trial.n_deaths = 0
                self._show(trial.record)
                self._go_on(trial)
            case CallLostError():
                self._make_ready(trial)
            case BrokenExecutor():
                trial.has_died = True
                trial.n_deaths += 1
                if trial.n_deaths <= MAX_WORKER_DEATHS:
                    self._make_ready(trial)
                    return
                times = f"{trial.n_deaths} times in one segment"
                reason = f"its worker process died {times}; is there enough memory?"
                trial.failure = "worker_died", reason, ""
            case MMSearchError():
                kind: Failure = "diverged" if _is_divergence(answer) else "error"
                trial.failure = kind, str(answer), ""
            case _:  # recorded with its traceback; the search goes on
                trial.failure = "error", _reason(answer), _traceback(answer)

    def _append(self, record: TrialRecord, result: CallResult) -> tuple[SegmentRecord, ...]:
        """Write a trial's next segments into the journal."""
        ended_ms = _now_ms() - 1000 * sum(segment.wall_s for segment in result.segments)
        lines = []
        for number, segment in enumerate(result.segments, len(record.curve) + 1):
            ended_ms += 1000 * segment.wall_s
            line = SegmentRecord(
                segment=number,
                step=record.spec.segment_end(number),
                train=segment.train,
                dev_loss=segment.dev_loss,
                dev_parts=segment.dev_parts,
                train_loss=segment.train_loss,
                wall_s=segment.wall_s,
                ended_ms=round(ended_ms),
                weights_sha256=segment.weights_sha256,
            )
            lines.append(line)
        self.journal.append(record.number, lines, result.weights, result.samples)
        return tuple(lines)

    def _decide_next(self) -> bool:
        """Make the next decision; return False if it depends on what has not been trained."""
        trials = self._running.values()
        if self.n_lanes is None:
            trial = next((trial for trial in trials if trial.is_known), None)
        else:
            trial = min(trials, key=lambda trial: trial.due, default=None)
        if trial is None or not trial.is_known:
            return False
        self._decide(trial)
        return True

    def _decide(self, trial: _Running) -> None:
        """Report a trial's segments; end it, prune it or let it go on."""
        record = trial.record
        n_reported = min(trial.due_segment, len(record.curve))
        for line in record.curve[trial.n_decided : n_reported]:
            self.proposer.report(record.number, line.step, line.dev_loss)
        trial.n_decided = n_reported
        # An earlier process let the trial go on, but its segment had to be trained again.
        was_decided = trial.due <= self._latest
        self._latest = max(self._latest, trial.due)
        if trial.failure is not None:
            kind, reason, error = trial.failure
            state = TrialState.FAIL
            outcome = Outcome(state=state, failure=kind, reason=reason, ended_ms=_now_ms())
            self._finish(record, outcome, error)
        elif record.spec.has_ended(trial.dev_losses[:n_reported]):
            self._finish(record, Outcome(state=TrialState.COMPLETE, ended_ms=_now_ms()))
        elif self.proposer.should_prune(record.number) and not was_decided:
            step = record.curve[-1].step
            reason = f"pruned at step {step} of {max(step, record.spec.n_steps)}"
            outcome = Outcome(state=TrialState.PRUNED, reason=reason, ended_ms=_now_ms())
            self._finish(record, outcome)
        else:
            self._go_on(trial)

    def _finish(self, record: TrialRecord, outcome: Outcome, error: str = "") -> None:
        del self._running[record.number]
        record = replace(record, outcome=outcome)
        self.journal.finish(record.number, outcome, error=error)
        self.proposer.tell(record)
        self._show(record)
        if outcome.state != TrialState.FAIL:
            self._n_finished += 1
            self._n_failures = 0
            return
        self._n_failures += 1
        if self._n_failures >= MAX_FAILURES_IN_A_ROW:
            raise MMSearchError(
                f"{self._n_failures} trials in a row failed, the last one, trial {record.number}, "
                f"since {outcome.reason}",
                hint="search other learning rates in a new --study; to find some that train, run: "
                f"mmsearch lr-range{options_of(self.journal)}",
            )

    def _show(self, record: TrialRecord) -> None:
        self._records[record.number] = record
        for observer in self.observers:
            observer.show(record)


def _now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def _is_divergence(error: MMSearchError) -> bool:
    from mmsearch.model.training import DivergedError  # noqa: PLC0415 (imports torch, as the error has)

    return isinstance(error, DivergedError)


def _reason(error: BaseException) -> str:
    """Return an error in one line; torch appends where in its own code it was raised."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
