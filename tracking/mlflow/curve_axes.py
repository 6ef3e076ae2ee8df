"""The axes of the loss curves in MLflow: which losses are in view."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsearch.tracking.journal.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmsearch.tracking.journal.records import SegmentRecord, TrialRecord

_STEP = 0.05
"""Nats that the ends of a scale are rounded to, so that few trials change it."""
_ROOM = 0.01
"""Nats beyond the losses that must be in view, so that none lies on an edge."""
_MARGIN = 1.05
"""Times the loss of guessing evenly up to which losses are in view."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveScale:
    """The axes on which all loss curves of a study are drawn."""

    low: float
    """Lower end of the y-axis, in nats per character."""
    high: float
    """Upper end of the y-axis, in nats per character."""
    has_log_steps: bool
    """Whether the x-axis is logarithmic."""

    @classmethod
    def of(cls, record: TrialRecord, n_characters: int) -> CurveScale | None:
        """Return the scale that one trial needs; None for a trial that failed or guesses worse.

        In view are the lowest losses on train and dev, the score, the last dev loss, and the dev
        curve after the first quarter of its evaluations; the first losses are so high that the
        rest would look flat. Losses far above that of guessing evenly, ln `n_characters`, are
        never in view, or one trial that diverged would flatten all the others.
        """
        limit = _MARGIN * math.log(n_characters)
        curve = record.curve
        dev = [line.dev_loss for line in curve]
        if record.state == TrialState.FAIL or not dev or min(dev) > limit:
            return None
        high = min(limit, max(record.dev_loss or 0.0, dev[-1], dev[len(dev) // 4]))
        return cls(
            low=_multiple(math.floor((min(*dev, *map(train_loss, curve)) - _ROOM) / _STEP)),
            high=_multiple(math.ceil((high + _ROOM) / _STEP)),
            has_log_steps=has_growing_steps(record),
        )


def _multiple(n: int) -> float:
    return round(n * _STEP, 2)


def has_growing_steps(record: TrialRecord) -> bool:
    """Whether a trial is evaluated at steps that grow, so that curves read best on a log axis."""
    return record.spec.evaluations == "growing"


def train_loss(line: SegmentRecord) -> float:
    """Return the train loss at the end of a segment; of version 0.1, that of minibatches."""
    return line.train[-1][1] if line.train_loss is None else line.train_loss


def widened(
    scale: CurveScale | None, records: Iterable[TrialRecord], n_characters: int
) -> CurveScale | None:
    """Return the least scale that has `scale` in it and what each of the trials needs."""
    found = [CurveScale.of(record, n_characters) for record in records]
    scales = [each for each in (scale, *found) if each is not None]
    if not scales:
        return None
    return CurveScale(
        low=min(each.low for each in scales),
        high=max(each.high for each in scales),
        has_log_steps=any(each.has_log_steps for each in scales),
    )
