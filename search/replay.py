"""A trial trained again from its stored spec, and held against its record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsearch.errors import InputError
from mmsearch.model.spec import TrialSpec
from mmsearch.model.training import DivergedError
from mmsearch.search import provenance, worker
from mmsearch.search.executors import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.search.session import Session
    from mmsearch.search.worker import SegmentResult
    from mmsearch.tracking.journal import SegmentRecord, TrialRecord

TOLERANCE_NATS = 0.01
"""How far a dev loss may be off where other versions or another processor round otherwise.

Rounding grows over thousands of steps until the weights are others, as from another seed nearly:
docs/log.md has what was measured."""
MATTERS = ("torch", "numpy", "mmsearch", "processor")
"""What the bits of a result depend on, besides its words and its spec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What came of training a trial again."""

    record: TrialRecord
    changed: Mapping[str, tuple[str, str]]
    """What of `MATTERS` is another now: (then, now). Empty asks for equal bits."""
    n_segments: int
    """Segments that were compared."""
    n_equal: int
    """Those of them with equal curve, dev loss and weights, bit for bit."""
    max_gap_nats: float
    """The largest difference between two dev losses."""
    end: str
    """The reason of a divergence, where the trial diverged; else empty."""

    @property
    def is_identical(self) -> bool:
        """Whether every bit is the same."""
        return self.n_equal == self.n_segments and self._has_same_end

    @property
    def is_reproduced(self) -> bool:
        """Whether the result is as it should be: to the bit, or within the tolerance."""
        if not self.changed:
            return self.is_identical
        return self.max_gap_nats <= TOLERANCE_NATS and bool(self.end) == _diverged(self.record)

    @property
    def _has_same_end(self) -> bool:
        outcome = self.record.outcome
        return not _diverged(self.record) or (outcome is not None and self.end == outcome.reason)


def replay(session: Session, number: int) -> Replay:
    """Train a trial again, as far as its record goes, in a worker like the one it had.

    Raises:
        InputError: there is no such trial, or nothing of it has been trained.
        JournalError: a file is damaged.
    """
    journal = session.journal
    if number not in journal.numbers():
        raise InputError(f"study {journal.name!r} has no trial {number}; see: mmsearch trials")
    record = journal.read(number)
    if not record.curve and not _diverged(record):
        raise InputError(f"trial {number} has nothing to compare with yet; see: mmsearch trials")
    then = record.facts.get("versions") or session.file.versions
    now = provenance.versions()
    results, end = _train(session, record)
    pairs = list(zip(record.curve, results, strict=False))
    return Replay(
        record=record,
        changed={
            name: (then.get(name, "unknown"), now[name])
            for name in MATTERS
            if then.get(name) != now[name]
        },
        n_segments=len(record.curve),
        n_equal=sum(_is_equal(line, result) for line, result in pairs),
        max_gap_nats=max((abs(a.dev_loss - b.dev_loss) for a, b in pairs), default=0.0),
        end=end,
    )


def _train(session: Session, record: TrialRecord) -> tuple[list[SegmentResult], str]:
    """Train the segments of a record, and the one it diverged in; the reason if it diverges."""
    spec = TrialSpec.from_json(record.spec)
    n_segments = len(record.curve) + _diverged(record)
    results: list[SegmentResult] = []
    weights: bytes | None = None
    with WorkerPool(1, worker.start, (session.words,)) as pool:
        for segment in range(1, n_segments + 1):
            try:
                result = pool.submit(worker.run_segment, spec, segment, weights).result()
            except DivergedError as error:
                return results, str(error)
            results.append(result)
            weights = result.weights
    return results, ""


def _diverged(record: TrialRecord) -> bool:
    """Whether the trial ended as a `DivergedError` does, and not by a fault of its machine."""
    if record.outcome is None or record.outcome.state != "FAIL":
        return False
    return re.search(r" at step \d+ of \d+$", record.outcome.reason) is not None


def _is_equal(line: SegmentRecord, result: SegmentResult) -> bool:
    return (
        line.dev_loss == result.dev_loss
        and tuple(line.train) == result.train
        and line.weights_sha256 == result.weights_sha256
    )
