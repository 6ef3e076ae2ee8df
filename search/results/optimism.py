"""Optimism of the best dev loss, which is the lowest of many: measured on halves of dev."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsearch.tracking.journal.records import best_trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmsearch.tracking.journal.records import SegmentRecord, TrialRecord

_HALVES = ("half_1", "half_2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimism:
    """How much worse a choice on one half of dev scores on the other, in nats per character."""

    choice: float | None
    """For the choice among all evaluations of all trials; None without losses on halves."""
    evaluation: float | None
    """For the choice among the evaluations of the best trial; None without losses on halves."""

    @classmethod
    def of(cls, trials: Sequence[TrialRecord]) -> Optimism:
        """Measure it on the complete trials that are scored by their best evaluation.

        Each half of dev chooses the evaluation with the lowest loss on it, and the other half
        scores that evaluation. The optimism is the mean over both of the second loss minus the
        first, so that one half being harder cancels out. A half is noisier than all of dev, on
        which the optimism is about half as large.
        """
        able = [trial for trial in trials if _is_able(trial)]
        best = best_trial(trials)
        return cls(
            choice=_measured([line for trial in able for line in trial.curve]),
            evaluation=_measured(best.curve if best is not None and _is_able(best) else ()),
        )

    def __str__(self) -> str:
        """Return one line of text; empty if nothing was measured."""
        if self.choice is None:
            return ""
        text = (
            f"the trial chosen on one half of dev scores {self.choice:.4f} nats worse on the other "
            "half"
        )
        if self.evaluation is None:
            return text
        return f"{text} ({self.evaluation:.4f} if only its step is chosen)"


def _is_able(trial: TrialRecord) -> bool:
    """Return whether a trial is scored by its best evaluation and has losses on halves of dev."""
    has_halves = all(half in line.dev_parts for line in trial.curve for half in _HALVES)
    return trial.is_complete and bool(trial.spec.patience) and has_halves


def _measured(evaluations: Sequence[SegmentRecord]) -> float | None:
    """Return the optimism of the choice among some evaluations; None without any."""
    if not evaluations:
        return None
    gaps = []
    for chooser, scorer in (_HALVES, _HALVES[::-1]):
        losses = [(line.dev_parts[chooser], line.dev_parts[scorer]) for line in evaluations]
        by_chooser, by_scorer = min(losses, key=lambda pair: pair[0])
        gaps.append(by_scorer - by_chooser)
    return sum(gaps) / len(gaps)
