"""What an uploader needs of a view: a copy of the journal that other programs can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.study_summary import StudySummary


class View(Protocol):
    """A copy of the journal for other programs; used by one thread at a time.

    After any error, `open` is called before any other method: the failed call may or may not have
    been carried out.
    """

    @property
    def title(self) -> str:
        """Name in messages, such as `MLflow`."""

    @property
    def uri(self) -> str:
        """URL of the store, password included; not for messages."""

    def open(self) -> None:
        """Connect."""

    def lacking(
        self, records: Sequence[TrialRecord], unreadable: Collection[int] = ()
    ) -> list[int]:
        """Return the numbers of the trials that the view lacks or holds in part.

        Args:
            records: the trials of the journal.
            unreadable: numbers of trials whose files are damaged.
        """

    def show_running(self) -> None:
        """Show that the study is being searched; writes, and raises where that is not possible."""

    def show_trial(self, record: TrialRecord, journal: Journal, *, is_idle: bool = False) -> None:
        """Bring one trial up to its record; does nothing where that has been done.

        Args:
            record: the trial.
            journal: where its files are, and the other trials.
            is_idle: whether no process trains it, where it has not ended.
        """

    def show_study(self, summary: StudySummary) -> None:
        """Show where the study stands at the end of a command."""

    def close(self) -> None:
        """Disconnect; does nothing where it is not connected."""
