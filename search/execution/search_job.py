"""The job of `mmsearch run`: the trials that Optuna proposes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.journal.records import TrialState, counts_by_state, n_finished

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
        """Where its trials are."""
        return self.session.journal

    @property
    def settings(self) -> Settings:
        """What each trial is trained by."""
        return self.session.file.settings

    def records(self) -> list[TrialRecord]:
        """Read the trials so far."""
        return self.journal.records()

    def n_left(self, records: Sequence[TrialRecord]) -> int:
        """Count the trials that are left."""
        n_running = counts_by_state(records)[TrialState.RUNNING]
        return max(self.session.file.n_trials - n_finished(records), n_running)

    def view(self) -> OptunaView:
        """Make what fills the Optuna storage; connects to nothing yet."""
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
        """Write down what a new study is, but for its storage: others must not know it before."""
        if self.session.before is None:
            file = dataclasses.replace(self.session.file, storage=None)
            self.journal.write_study(file.to_json())

    def withdraw(self) -> None:
        """Take back what `begin` wrote: the study's storage is refused."""
        if self.session.before is None:
            self.journal.delete_study()

    def propose(
        self,
        records: Sequence[TrialRecord],
        enqueued: Iterable[Mapping[str, Any]],
        *,
        has_view: bool = True,
    ) -> OptunaProposer:
        """Begin or go on: fix what the study is, and build Optuna's study from the journal.

        Args:
            records: the trials so far.
            enqueued: what somebody enqueued in the storage.
            has_view: whether the storage has answered. One that has not may be a slip of the
                fingers, and does not take the place of one that the study had.
        """
        from mmsearch.search.optimizer.optuna_study import OptunaProposer, not_begun  # noqa: PLC0415 (slow)

        session, file = self.session, self.session.file
        if not has_view and session.before is not None and session.before.storage is not None:
            file = dataclasses.replace(file, storage=session.before.storage)
        self.journal.write_study(file.to_json())
        points = [*session.enqueue, *self.settings.start_points(len(session.split.train))]
        queue = [*enqueued, *not_begun(points, records)]
        return OptunaProposer(self.journal.name, self.settings, records, queue)
