"""Where a study stands: what its parent run in MLflow and its report show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mmsearch.tracking.journal.baselines import Baselines
    from mmsearch.tracking.journal.records import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySummary:
    """The trials of a study, and what is known about them together."""

    trials: Sequence[TrialRecord]
    """All trials that have begun."""
    importances: Mapping[str, float]
    """Share of the dev loss's variance that each hyperparameter explains alone; empty where too
    few trials are complete."""
    log_axes: frozenset[str]
    """Hyperparameters that are searched on a log scale."""
    is_done: bool
    """Whether all trials that were asked for have finished."""
    candidates: Sequence[tuple[int, float, Sequence[float]]] = ()
    """(trial number, dev loss, dev losses over the fresh seeds) of each candidate of the
    confirmation, best first."""
    remarks: Sequence[str] = ()
    """Paragraphs of Markdown about the best trial's score."""
    sections: Sequence[str] = ()
    """Other paragraphs of Markdown, oldest first."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the parent run."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the parent run."""
    baselines: Baselines | None = None
    """None where they have not been computed."""
