"""The loop: asks for trials, sends segments to workers, keeps the journal, tells Optuna and MLflow.

After each segment, in this order: journal, Optuna, MLflow. Whatever kills the process, the next
one finds in the journal at least what the other two have heard.
"""

from __future__ import annotations

import queue
import time
import traceback
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from mmsearch.errors import MMSearchError, RefusedError
from mmsearch.search import provenance
from mmsearch.search.patience import AwayError
from mmsearch.tracking.journal import Outcome, SegmentRecord, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor, Future

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.settings import Settings
    from mmsearch.search.worker import SegmentResult
    from mmsearch.tracking.journal import Journal

MAX_FAILURES_IN_A_ROW = 10
"""Failed trials after which the search stops: one setting is wrong for all of them."""
MAX_WORKER_DEATHS = 3
"""Times that one segment is tried again after its worker died."""
POLL_S = 0.2
"""Seconds after which a waiting loop looks at the clock and at Ctrl-C."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A trial to train."""

    number: int
    point: Mapping[str, Any]
    """Hyperparameters of the trial, and whatever else is searched."""
    seed: int
    """Of its training."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the journal shall know of it."""


class Proposer(Protocol):
    """Who says what is trained, and hears how it goes: Optuna, or a list to confirm."""

    def counts(self) -> Mapping[str, int]:
        """Count ended trials by state."""

    def running(self) -> list[int]:
        """Trials that an earlier process began and did not end."""

    def ask(self) -> Proposal | None:
        """Begin a trial; None where there is no more to train."""

    def attach(self, number: int) -> Proposal:
        """Take up a trial of an earlier process."""

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Hear a dev loss."""

    def should_prune(self, number: int) -> bool:
        """Whether the trial shall end now."""

    def tell(self, number: int, state: str, dev_loss: float | None, reason: str) -> None:
        """Hear how a trial ended."""

    def close(self) -> None:
        """Let go of what it holds; the last that is asked of it."""

    def stop(self) -> None:
        """Wait for nothing any more; may be called from a signal handler."""


class Observer(Protocol):
    """Who is told of a search as it goes: the display, and MLflow's mirror."""

    def show(self, record: TrialRecord) -> None:
        """Take note of a trial's news; must return at once."""


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


@dataclass(slots=True)
class _Running:
    """A trial that has a segment with a worker."""

    record: TrialRecord
    spec: TrialSpec
    weights: bytes | None
    n_deaths: int = 0

    @property
    def dev_losses(self) -> tuple[float, ...]:
        """Dev losses of its segments so far."""
        return tuple(segment.dev_loss for segment in self.record.curve)


@dataclass(slots=True)
class Coordinator:
    """Trains what is proposed; the only one to write the study's folder and to talk to Optuna."""

    proposer: Proposer
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
    _is_stopping: bool = field(init=False, default=False)
    _versions: Mapping[str, str] = field(init=False, default_factory=provenance.versions)

    def stop(self) -> None:
        """End `run` after the segments in flight; may be called from a signal handler."""
        self._is_stopping = True
        self.proposer.stop()

    def run(self, limits: Limits) -> SearchResult:
        """Search until the study has its trials, the time is up, or `stop` is called.

        Raises:
            MMSearchError: `MAX_FAILURES_IN_A_ROW` trials in a row failed, or the journal cannot
                be written.
            AwayError: who proposes is away; the next run tells it what the journal holds.
        """
        deadline = None if limits.timeout_s is None else time.monotonic() + limits.timeout_s
        try:
            self._search(limits.n_trials, deadline)
        except AwayError:
            if not self._is_stopping:  # else it was not waited for
                raise
        is_short = self._n_finished < limits.n_trials or bool(self.proposer.running())
        return SearchResult(
            n_finished=self._n_finished,
            n_begun=self._n_begun,
            is_interrupted=self._is_stopping and is_short,
        )

    def _search(self, n_trials: int, deadline: float | None) -> None:
        """Train until there are `n_trials`, or the monotonic clock says `deadline`."""
        self._settle()
        left_over = self.proposer.running()
        while not self._is_stopping:
            while len(self._running) < self.n_workers and left_over:
                self._carry_on(left_over.pop(0))
            while (
                len(self._running) < self.n_workers
                and self._n_finished + len(self._running) < n_trials
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

    def _settle(self) -> None:
        """Tell Optuna the outcomes that an earlier process wrote down but did not tell."""
        for number in self.proposer.running():
            if self.journal.has_ended(number):
                record = self.journal.read(number)
                self.proposer.attach(number)
                self._report(record)
                self._tell(record)
        counts = self.proposer.counts()
        self._n_finished = counts["COMPLETE"] + counts["PRUNED"]

    def _begin(self) -> bool:
        """Begin a trial; False where none is proposed."""
        proposal = self.proposer.ask()
        if proposal is None:
            return False
        self._n_begun += 1
        if self.journal.has_begun(proposal.number):
            raise RefusedError(
                "Optuna's database is older than the workspace, which has a trial "
                f"{proposal.number} already; put the database back that goes with it, or name a "
                "new --study"
            )
        self._start(proposal)
        return True

    def _carry_on(self, number: int) -> None:
        """Go on with a trial of an earlier process, from its last whole segment."""
        self._n_begun += 1
        proposal = self.proposer.attach(number)
        if not self.journal.has_begun(number):
            self._start(proposal)
            return
        curve, weights = self.journal.resume(number)
        record = replace(self.journal.read(number), curve=tuple(curve))
        self._running[number] = _Running(record, self._spec(proposal), weights)
        self._report(record)
        self._show(record)
        self._go_on(number)

    def _start(self, proposal: Proposal) -> None:
        number, spec = proposal.number, self._spec(proposal)
        facts = {
            "started_ms": _now_ms(),
            "n_parameters": spec.n_parameters(self.vocab_size),
            "versions": self._versions,
            **proposal.facts,
        }
        self.journal.start(number, spec.to_json(), facts)
        record = TrialRecord(number=number, spec=spec.to_json(), facts=facts)
        self._running[number] = _Running(record, spec, None)
        self._show(record)
        self._submit(number)

    def _spec(self, proposal: Proposal) -> TrialSpec:
        return self.settings.trial_spec(proposal.point, proposal.seed)

    def _submit(self, number: int) -> None:
        trial = self._running[number]
        losses = trial.dev_losses
        future = self.executor.submit(self.run_segment, trial.spec, losses, trial.weights)
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
                    del self._running[number]
                else:
                    self._submit(number)
                return
            times = f"{trial.n_deaths} times in one segment"
            self._fail(number, f"its worker process died {times}; is there enough memory?", "")
        except MMSearchError as error:
            self._fail(number, str(error), "")
        except Exception as error:  # noqa: BLE001 (recorded with its traceback; the search goes on)
            self._fail(number, _reason(error), _traceback(error))
        else:
            self._take(number, result)

    def _take(self, number: int, result: SegmentResult) -> None:
        """Write a segment down, report it, and end the trial or go on with it."""
        trial = self._running[number]
        segment = len(trial.record.curve) + 1
        line = SegmentRecord(
            segment=segment,
            step=trial.spec.segment_end(segment),
            train=result.train,
            dev_loss=result.dev_loss,
            dev_parts=result.dev_parts,
            train_loss=result.train_loss,
            wall_s=result.wall_s,
            ended_ms=_now_ms(),
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
        if trial.spec.has_ended(trial.dev_losses):
            self._finish(number, Outcome(state="COMPLETE", ended_ms=_now_ms()))
        elif trial.record.curve and self.proposer.should_prune(number):
            step, planned = trial.record.curve[-1].step, trial.spec.n_steps
            reason = f"pruned at step {step} of {max(step, planned)}"
            self._finish(number, Outcome(state="PRUNED", reason=reason, ended_ms=_now_ms()))
        else:
            self._show(trial.record)
            if self._is_stopping:
                del self._running[number]
            else:
                self._submit(number)

    def _fail(self, number: int, reason: str, error: str) -> None:
        self._finish(number, Outcome(state="FAIL", reason=reason, ended_ms=_now_ms()), error)

    def _finish(self, number: int, outcome: Outcome, error: str = "") -> None:
        record = replace(self._running.pop(number).record, outcome=outcome)
        self.journal.finish(number, outcome, error=error)
        self._tell(record)
        self._show(record)
        if outcome.state != "FAIL":
            self._n_finished += 1
            self._n_failures = 0
            return
        self._n_failures += 1
        if self._n_failures >= MAX_FAILURES_IN_A_ROW:
            raise MMSearchError(
                f"{self._n_failures} trials in a row failed, the last one, trial {number}, since "
                f"{outcome.reason}; change [space] or the training settings in a new --study"
            )

    def _report(self, record: TrialRecord) -> None:
        """Give Optuna all dev losses of a trial; those that it has change nothing."""
        for segment in record.curve:
            self.proposer.report(record.number, segment.step, segment.dev_loss)

    def _tell(self, record: TrialRecord) -> None:
        reason = record.outcome.reason if record.outcome else ""
        self.proposer.tell(record.number, record.state, record.dev_loss, reason)

    def _show(self, record: TrialRecord) -> None:
        for observer in self.observers:
            observer.show(record)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _reason(error: BaseException) -> str:
    """Say an error in one line; torch adds where in its own code it was."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
