"""Where a study stands: what its parent run in MLflow and its report show."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mmsearch.tracking.journal.baselines import Baselines
    from mmsearch.tracking.journal.records import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySummary:
    """The trials of a study, and what is known about them together."""

    trials: Sequence[TrialRecord]
    """All trials that have begun."""
    log_axes: frozenset[str]
    """Hyperparameters that are searched on a log scale."""
    is_done: bool
    """Whether all trials that were asked for have finished."""
    importances: Callable[[], Mapping[str, float]] = dict
    """Computes the share of the dev loss's variance that each hyperparameter explains alone, which
    takes a second; the result is empty if too few trials are complete."""
    candidates: Sequence[tuple[int, float, Sequence[float]]] = ()
    """(trial number, dev loss, dev losses over the fresh seeds) of each candidate of the
    confirmation, best first."""
    parents: Mapping[int, int] = field(default_factory=dict)
    """The trial that each extension goes on from, by the extension's number."""
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

    @property
    def digest(self) -> str:
        """SHA-256 of all that it shows; importances follow from the trials."""
        trials = [
            (t.number, t.spec, t.state, t.dev_loss, t.outcome and t.outcome.ended_ms, t.excluded)
            for t in self.trials
        ]
        shown = (
            *(version("mmsearch"), trials, sorted(self.log_axes), self.is_done, self.candidates),
            *(self.parents, self.remarks, self.sections, self.tags, self.metrics, self.baselines),
        )
        return hashlib.sha256(repr(shown).encode()).hexdigest()
