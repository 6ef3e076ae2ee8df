"""The job of `mmsearch run`: the trials that Optuna proposes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.journal.records import TrialState, counts_by_state, n_finished

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.optimizer.optuna_study import OptunaProposer
    from mmsearch.search.optimizer.optuna_view import OptunaView
    from mmsearch.search.study.session import Session
    from mmsearch.search.study.settings import Settings
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Search:
    """The job of `mmsearch run`: the trials that Optuna proposes."""

    session: Session

    @property
    def journal(self) -> Journal:
        """The study's journal."""
        return self.session.journal

    @property
    def settings(self) -> Settings:
        """The study's settings."""
        return self.session.file.settings

    @property
    def n_lanes(self) -> int:
        """The study's lanes."""
        return self.settings.lanes

    def decides(self, spec: TrialSpec, segment: int) -> bool:
        """Return whether the pruner compares a trial with others after a segment."""
        from mmsearch.search.optimizer.pruners import decides  # noqa: PLC0415 (slow)

        return decides(self.settings, spec, segment)

    @property
    def initial_weights(self) -> bytes | None:
        """None: each training draws its own first weights."""
        return None

    def records(self) -> list[TrialRecord]:
        """Read the trials that have begun."""
        return self.journal.records()

    def n_left(self, records: Sequence[TrialRecord]) -> int:
        """Count the trials that are not finished yet."""
        n_running = counts_by_state(records)[TrialState.RUNNING]
        return max(self.session.file.n_trials - n_finished(records), n_running)

    def view(self) -> OptunaView:
        """Return the view of the study in its Optuna storage, not connected yet."""
        from mmsearch.search.optimizer.optuna_view import OptunaView  # noqa: PLC0415 (slow)

        session = self.session
        return OptunaView(
            session.storage,
            self.journal.name,
            session.file.id,
            self.settings.space,
            creating=partial(session.workspace.locked, "optuna"),
        )

    def begin(self) -> None:
        """Write a new study's file, which the storage may still refuse."""
        if self.session.before is None:
            self.session.save()

    def withdraw(self) -> None:
        """Delete the file that `begin` wrote: the storage refused the study."""
        if self.session.before is None:
            self.journal.delete_study()

    def propose(
        self, records: Sequence[TrialRecord], enqueued: Iterable[Mapping[str, Any]]
    ) -> OptunaProposer:
        """Write the study's file, and build Optuna's study in memory from the journal.

        Args:
            records: the trials that have begun.
            enqueued: configurations that somebody enqueued in the storage.
        """
        from mmsearch.search.optimizer.optuna_study import OptunaProposer, not_begun  # noqa: PLC0415 (slow)

        self.session.save()
        points = [
            *self.session.enqueue,
            *self.settings.start_points(len(self.session.split.train)),
        ]
        queue = [*enqueued, *not_begun(points, records)]
        return OptunaProposer(self.journal.name, self.settings, records, queue)
