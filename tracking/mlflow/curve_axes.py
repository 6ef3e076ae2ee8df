"""The axes of the loss curves in MLflow's charts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsearch.tracking.journal.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmsearch.tracking.journal.records import TrialRecord

_STEP = 0.05
"""Nats that the ends of an axis are rounded to, so that few trials change it."""
_ROOM = 0.01
"""Nats between a loss that must be in view and the end of the axis."""
_MARGIN = 1.05
"""Losses above this many times the loss of a uniform guess are never in view."""


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
        """Return the scale for one trial; None if it failed or is worse than a uniform guess.

        In view are the lowest losses on train and dev, the score, the last dev loss, and the dev
        curve after the first quarter of its evaluations: the first losses are so high that the
        rest would look flat.
        """
        limit = _MARGIN * math.log(n_characters)
        dev = [line.dev_loss for line in record.curve]
        if record.state == TrialState.FAIL or not dev or min(dev) > limit:
            return None
        lowest = min(*dev, *(line.latest_train_loss for line in record.curve))
        high = min(limit, max(record.dev_loss or 0.0, dev[-1], dev[len(dev) // 4]))
        return cls(
            low=_multiple(math.floor((lowest - _ROOM) / _STEP)),
            high=_multiple(math.ceil((high + _ROOM) / _STEP)),
            has_log_steps=record.spec.evaluations == "growing",
        )


def _multiple(n: int) -> float:
    return round(n * _STEP, 2)


def widened(
    scale: CurveScale | None, records: Iterable[TrialRecord], n_characters: int
) -> CurveScale | None:
    """Return the smallest scale that contains `scale` and the scale of each trial."""
    needed = (scale, *(CurveScale.of(record, n_characters) for record in records))
    scales = [one for one in needed if one is not None]
    if not scales:
        return None
    return CurveScale(
        low=min(one.low for one in scales),
        high=max(one.high for one in scales),
        has_log_steps=any(one.has_log_steps for one in scales),
    )
