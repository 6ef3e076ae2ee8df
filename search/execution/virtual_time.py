"""Virtual time: when each event of a search happens, whatever its workers do.

A trial's segment takes its steps times the cost of a step. The decisions of a search are made in
the order of these times, so that they follow from its settings alone (docs/adr/0013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from mmsearch.model.cost import step_ns
from mmsearch.tracking.journal.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mmsearch.model.cost import CostTable
    from mmsearch.model.spec import TrialSpec
    from mmsearch.tracking.journal.records import TrialRecord

STARTED_NS = "started_ns"
"""Key of a trial's facts: the virtual time at which it started, in nanoseconds."""


class Event(NamedTuple):
    """When a trial's decision is due; the trial's number decides between equal times."""

    time_ns: int
    number: int


BEGINNING = Event(0, -1)
"""Before all events of a study."""


@dataclass(frozen=True, slots=True)
class VirtualClock:
    """Tells when the segments of a study's trials end."""

    costs: CostTable
    """Costs that the study was started with."""
    vocab_size: int
    decides: Callable[[TrialSpec, int], bool]
    """Whether the pruner decides after a segment, given the spec and the segment's number."""

    def segment(self, record: TrialRecord, segment: int) -> Event:
        """Return the end of a trial's segment, counted from 1."""
        step = record.spec.segment_end(segment)
        started_ns = record.facts.get(STARTED_NS, 0)  # not in those of version 0.2
        cost_ns = step_ns(self.costs, record.spec, self.vocab_size)
        return Event(started_ns + step * cost_ns, record.number)

    def is_due(self, record: TrialRecord, segment: int) -> bool:
        """Return whether a trial is pruned, ended or continued after one of its segments."""
        losses = [line.dev_loss for line in record.curve[:segment]]
        return record.spec.has_ended(losses) or self.decides(record.spec, segment)

    def next_due(self, record: TrialRecord, n_decided: int) -> int:
        """Return the first segment after `n_decided` at which a decision is due or may be.

        If that segment has not been trained, the trial may turn out to go on there.
        """
        losses = [line.dev_loss for line in record.curve]
        for segment in count(n_decided + 1):
            if segment <= len(losses):
                if self.is_due(record, segment):
                    return segment
                continue
            # Worse than any, so that it ends as early as it can.
            worst = [*losses, *[math.inf] * (segment - len(losses))]
            if record.spec.has_ended(worst) or self.decides(record.spec, segment):
                return segment
        raise AssertionError

    def latest(self, records: Iterable[TrialRecord]) -> Event:
        """Return the latest event that was decided, as far as the journal tells."""
        events = [BEGINNING]
        for record in records:
            if STARTED_NS not in record.facts:
                continue
            if record.outcome is not None:
                events.append(self.end(record))
            elif segment := self._last_continued(record):
                events.append(self.segment(record, segment))
        return max(events)

    def end(self, record: TrialRecord) -> Event:
        """Return when a finished trial ended; those of version 0.2 come before all others."""
        if STARTED_NS not in record.facts:
            return Event(-1, record.number)
        n = len(record.curve)
        # A failure takes effect where the trial's next decision would have been due.
        return self.segment(
            record, self.next_due(record, n) if record.state == TrialState.FAIL else n
        )

    def n_decided(self, record: TrialRecord, latest: Event) -> int:
        """Return after how many of its segments a trial had been decided on at an event."""
        n = len(record.curve)
        # That a trial has ended is not decided as long as it has no outcome.
        n -= record.spec.has_ended([line.dev_loss for line in record.curve])
        if STARTED_NS in record.facts:
            for segment in range(n, 0, -1):
                if self.segment(record, segment) <= latest:
                    return segment
        return self._last_continued(record)

    def decided(self, records: Iterable[TrialRecord]) -> list[TrialRecord]:
        """Return trials as they were at the latest event that was decided.

        What running trials have trained beyond it is left out.
        """
        records = list(records)
        latest = self.latest(records)
        return [
            record
            if record.outcome
            else replace(record, curve=record.curve[: self.n_decided(record, latest)])
            for record in records
        ]

    def _last_continued(self, record: TrialRecord) -> int:
        """Return the last segment after which a trial was not pruned; 0 for none.

        The next segment is trained only then.
        """
        for segment in range(len(record.curve) - 1, 0, -1):
            if self.decides(record.spec, segment):
                return segment
        return 0
