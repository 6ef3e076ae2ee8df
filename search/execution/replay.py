"""A trial trained again from its stored spec, and held against its record."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsearch.errors import InputError, MMSearchError
from mmsearch.model.training import DivergedError
from mmsearch.search.execution import worker
from mmsearch.search.execution.worker_pool import WorkerPool
from mmsearch.search.results.selection import choose, find_trial
from mmsearch.search.study import provenance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.search.execution.worker import SegmentResult
    from mmsearch.search.study.session import Session
    from mmsearch.tracking.journal.records import TrialRecord

TOLERANCE_NATS = 1e-4
"""How far any dev loss may be off where other versions or another processor round otherwise.

At usual settings rounding moves a loss by 1e-7, another seed by 3e-3. With a learning rate near
the edge rounding grows, and no tolerance tells it from an error: docs/log.md, 2026-11-24.
"""
MATTERS = ("torch", "numpy", "mmsearch", "processor")
"""What the bits of a result depend on, besides its words and its spec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment of a record, and what it is now."""

    step: int
    """Steps done when it ended."""
    then: float
    """Dev loss in the record."""
    now: float
    """Dev loss of the training."""
    is_equal: bool
    """Whether its place, curve, dev loss and weights are the same, bit for bit."""

    @property
    def is_near(self) -> bool:
        """Whether the dev losses agree within the tolerance."""
        return abs(self.now - self.then) <= TOLERANCE_NATS


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What came of training a trial again."""

    record: TrialRecord
    changed: Mapping[str, tuple[str, str]]
    """What of `MATTERS` is another now: (then, now). Empty asks for equal bits."""
    segments: tuple[Segment, ...]
    """Those that were trained again."""
    end: str
    """The reason of a divergence now; empty where it did not diverge."""

    @property
    def recorded_end(self) -> str:
        """The reason of a divergence in the record; else empty."""
        return self.record.divergence

    @property
    def is_identical(self) -> bool:
        """Whether every bit is the same."""
        has_all = len(self.segments) == len(self.record.curve)
        return has_all and self.end == self.recorded_end and all(s.is_equal for s in self.segments)

    @property
    def is_reproduced(self) -> bool:
        """Whether the result is as it should be: to the bit, or within the tolerance."""
        if not self.changed:
            return self.is_identical
        has_all = len(self.segments) == len(self.record.curve)
        is_alike = bool(self.end) == bool(self.recorded_end)
        return has_all and is_alike and all(segment.is_near for segment in self.segments)

    @property
    def max_gap_nats(self) -> float:
        """The largest difference between two dev losses; 0 where there is none."""
        return max((abs(s.now - s.then) for s in self.segments), default=0.0)

    @property
    def parting_step(self) -> int | None:
        """Where the two part: the end of the first segment that is not as it should be."""
        for segment in self.segments:
            if not (segment.is_near if self.changed else segment.is_equal):
                return segment.step
        return None


def replay(session: Session, number: int | None) -> Replay:
    """Train a trial again, as far as its record goes, in a worker like the one it had.

    Args:
        session: the study.
        number: of the trial; None for the chosen model.

    Raises:
        InputError: there is no such trial, or nothing of it has been trained.
        RefusedError: no trial is complete, so that none is chosen.
        JournalError: a file is damaged.
        MMSearchError: the worker process died.
    """
    journal = session.journal
    if number is None:
        choice = choose(journal)
        journal, record = choice.journal, choice.record
    else:
        record = find_trial(journal, number)
    if not record.curve and not record.divergence:
        raise InputError(f"{record.name} has nothing to compare with yet; see: mmsearch trials")
    if record.curve:
        journal.read_weights(record)  # raises where the file is not what the record says
    then = record.facts.get("versions") or session.file.versions
    now = provenance.versions()
    results, end = _train(session, record)
    return Replay(
        record=record,
        changed={
            name: (str(then.get(name, "unknown")), now[name])
            for name in MATTERS
            if then.get(name) != now[name]
        },
        segments=tuple(
            Segment(
                step=record.spec.segment_end(place),
                then=line.dev_loss,
                now=result.dev_loss,
                is_equal=(line.segment, line.step) == (place, record.spec.segment_end(place))
                and tuple(line.train) == result.train
                and line.dev_loss == result.dev_loss
                and (line.train_loss in {None, result.train_loss})
                and line.weights_sha256 == result.weights_sha256,
            )
            for place, (line, result) in enumerate(zip(record.curve, results, strict=False), 1)
        ),
        end=end,
    )


def _train(session: Session, record: TrialRecord) -> tuple[list[SegmentResult], str]:
    """Train the segments of a record, and the one it diverged in; the reason if it diverges."""
    n_segments = len(record.curve) + bool(record.divergence)
    results: list[SegmentResult] = []
    weights: bytes | None = None
    with WorkerPool(1, worker.start, (session.words,)) as pool:
        for segment in range(1, n_segments + 1):
            losses = tuple(result.dev_loss for result in results)
            try:
                result = pool.submit(worker.run_segment, record.spec, losses, weights).result()
            except DivergedError as error:
                return results, str(error)
            except BrokenExecutor as error:
                raise MMSearchError(
                    f"the worker process died in segment {segment}; is there enough memory?"
                ) from error
            results.append(result)
            weights = result.weights
    return results, ""
