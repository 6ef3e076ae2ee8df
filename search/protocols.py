"""What the parts of a search ask of each other, so that none has to import the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mmsearch.tracking.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.study.session import Session
    from mmsearch.search.study.settings import Settings
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A trial to train."""

    number: int
    point: Mapping[str, Any]
    """Values of everything that is searched, by name."""
    seed: int
    """Seed for the initial parameters and the minibatches."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further values that the journal records with the trial."""


class Proposer(Protocol):
    """Decides what is trained: Optuna's sampler and pruner, or a list to confirm."""

    def ask(self) -> Proposal | None:
        """Propose the next trial; None if there is nothing left to train."""

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Record a trial's dev loss at a step."""

    def should_prune(self, number: int) -> bool:
        """Return whether to end a trial at its latest report."""

    def tell(self, record: TrialRecord) -> None:
        """Record how a trial ended."""


class Observer(Protocol):
    """Receives each trial's updates: the display, and the uploaders."""

    def show(self, record: TrialRecord) -> None:
        """Take a trial's latest state; must not block."""


class EnqueuingView(View, Protocol):
    """A view in which people may enqueue trials."""

    enqueued: Sequence[Mapping[str, Any]]
    """Configurations that are waiting there, known once `lacking` has been called."""


class Job(Protocol):
    """A set of trials to train: a search, the trainings of a confirmation, or an extension."""

    @property
    def session(self) -> Session:
        """The study they belong to."""

    @property
    def journal(self) -> Journal:
        """The journal that records them."""

    @property
    def settings(self) -> Settings:
        """Settings of each training, besides its hyperparameters and its seed."""

    @property
    def n_lanes(self) -> int | None:
        """Trials that run at once, whatever the number of workers; None if all are independent."""

    def decides(self, spec: TrialSpec, segment: int) -> bool:
        """Return whether `Proposer.should_prune` may end a trial after a segment, from 1 on."""

    @property
    def initial_weights(self) -> bytes | None:
        """Weights that every trial starts from, as safetensors; None where each draws its own."""

    def records(self) -> list[TrialRecord]:
        """Read the trials that have begun."""

    def n_left(self, records: Sequence[TrialRecord]) -> int:
        """Count the trials that are not finished yet."""

    def view(self) -> EnqueuingView | None:
        """Return the view of these trials in an Optuna storage; None unless they are a search."""

    def begin(self) -> None:
        """Write what must be on disk before the view is opened."""

    def withdraw(self) -> None:
        """Undo `begin`: the view was refused."""

    def propose(
        self, records: Sequence[TrialRecord], enqueued: Iterable[Mapping[str, Any]]
    ) -> Proposer:
        """Start or resume; called when everything else is ready.

        Args:
            records: the trials that have begun.
            enqueued: configurations that somebody enqueued in the Optuna storage.
        """
