"""The thread that brings a view of the journal up to date, off the path that workers wait for.

MLflow and Optuna's storage are views: each is filled from the journal alone, and can be rebuilt
from it at any time.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mmsearch.errors import InputError, MMSearchError, RefusedError
from mmsearch.secrets import without_password, without_secrets
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.mlflow.client import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.study_summary import StudySummary

FLUSH_S = 2.0
"""Seconds for which updates are gathered before they are sent."""
POLL_S = 0.2
"""Seconds after which a waiting `close` checks whether it has been abandoned."""
GRACE_S = 10.0
"""Seconds for which `close` waits for a view that has failed before and does not answer."""
RETRY_S = (2, 5, 15, 30, 60)
"""Seconds to wait after each failure in a row; then the last one again."""
MAX_TRIES = 4
"""Failed attempts at one trial after which that is said."""

logger = logging.getLogger(__name__)


class View(Protocol):
    """A copy of the journal that other programs read. Used by one thread.

    After any error, `open` comes before the next call: the failed call may or may not have been
    carried out.
    """

    @property
    def title(self) -> str:
        """What a person calls it, such as `MLflow`."""

    @property
    def uri(self) -> str:
        """Where it is, password and all."""

    def open(self) -> None:
        """Connect to it."""

    def lacking(
        self, records: Iterable[TrialRecord], unreadable: Collection[int] = ()
    ) -> list[int]:
        """Return the numbers of the trials that it lacks or holds in part.

        Args:
            records: the journal's trials.
            unreadable: numbers of those whose files are damaged.
        """

    def show_running(self) -> None:
        """Show that the study is being searched."""

    def show_trial(self, record: TrialRecord, journal: Journal, *, is_idle: bool = False) -> None:
        """Bring one trial up to its record; does nothing where that has been done.

        Args:
            record: the trial.
            journal: where its files are, and the other trials.
            is_idle: whether nobody trains it at present, where it has not ended.
        """

    def show_study(self, summary: StudySummary) -> None:
        """Show where the study stands at the end of a command."""

    def close(self) -> None:
        """Disconnect; does nothing where it is not connected."""


@dataclass(slots=True)
class _Failure:
    """Attempts at a trial that raised an error."""

    error: Exception
    n_tries: int = 0
    due_s: float = 0.0
    """Monotonic time of the next attempt."""
    is_told: bool = False


class Uploader:
    """Sends what the journal holds to a view, from a thread of its own.

    A view that is away, slow or broken never stops the caller: what could not be sent is tried
    again, and stays in the journal for the next run. `show` and `close` are for one caller.
    """

    def __init__(
        self,
        view: View,
        journal: Journal,
        on_behind: Callable[[str], None],
        earlier: Sequence[TrialRecord] | None = None,
        *,
        is_awaited: bool = False,
    ) -> None:
        """Prepare it.

        Args:
            view: where to; used by the thread alone once it has started.
            journal: where from.
            on_behind: called from the thread with a reason when the view cannot be reached, once,
                and for each trial that cannot be shown.
            earlier: the journal's trials, where they have been read already.
            is_awaited: whether the caller waits until it is open, and says itself why it is
                refused.
        """
        self._view = view
        self._journal = journal
        self._on_behind = on_behind
        self._earlier = earlier
        self._is_awaited = is_awaited
        self._pending: dict[int, TrialRecord | None] = {}
        self._unfinished: dict[int, TrialRecord] = {}
        self._failures: dict[int, _Failure] = {}
        self._summary: StudySummary | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name=f"uploader to {view.title}", daemon=True
        )
        self._is_open = False
        self._has_told = False
        self._has_told_trial = False
        self._is_abandoned = False
        self._answered_s = -math.inf
        """Monotonic time of the last call that was carried out."""
        self.error: Exception | None = None
        """Why the view is behind; None while it is not."""

    def start(self) -> None:
        """Start the thread; trials that the view lacks are shown first."""
        self._thread.start()

    def wait_until_open(self, timeout_s: float) -> Exception | None:
        """Wait for the first attempt to open the view.

        Returns:
            The error that it raised, a `TimeoutError` where it does not answer in time; None where
            it is open. After an `InputError` or a `RefusedError` no other attempt is made.
        """
        if not self._tried.wait(timeout_s):
            return TimeoutError()
        return self.error

    def show(self, record: TrialRecord) -> None:
        """Queue a trial's latest state; does not block."""
        with self._lock:
            if record.outcome is None:
                self._unfinished[record.number] = self._pending[record.number] = record
            else:
                # An ended trial is read from the journal when its turn comes: an outage of hours
                # must not fill the memory.
                self._pending[record.number] = None
                self._unfinished.pop(record.number, None)
        if record.outcome:
            self._wake.set()

    @property
    def title(self) -> str:
        """What a person calls the view."""
        return self._view.title

    def close(self, summary: StudySummary | None) -> bool:
        """Send the rest and stop.

        Args:
            summary: where the study stands; None where that cannot be told.

        Returns:
            Whether the view holds everything; False as soon as it fails once more, does not answer
            after it has failed before, or is abandoned.
        """
        began_s = time.monotonic()
        self._summary = summary
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive() and not self._is_abandoned and not self._is_lost(began_s):
            self._thread.join(POLL_S)
        return self.error is None and not self._thread.is_alive()

    def stop(self) -> None:
        """End the thread where `close` has not been called, after a fault elsewhere."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(GRACE_S)

    def abandon(self) -> None:
        """Make `close` return now; may be called from a signal handler."""
        self._is_abandoned = True

    def _is_lost(self, since_s: float) -> bool:
        """Return whether the view is away and has not answered for a while."""
        is_behind = self._has_told and self.error is not None
        return is_behind and time.monotonic() - max(since_s, self._answered_s) > GRACE_S

    def _work(self) -> None:
        n_failures = 0
        try:
            while True:
                is_last = self._closing.is_set()
                error = self._bring_up(is_last=is_last)
                if is_last or self._is_refused(error):
                    return
                self._tried.set()
                if error is None:
                    n_failures = 0
                    self._wake.wait(FLUSH_S)
                    self._wake.clear()
                else:
                    n_failures += 1
                    self._closing.wait(RETRY_S[min(n_failures, len(RETRY_S)) - 1])
        finally:
            self._tried.set()
            try:
                self._view.close()
            except Exception:
                logger.info("%s could not be closed", self._view.title, exc_info=True)

    def _bring_up(self, *, is_last: bool) -> Exception | None:
        """Bring the view up to the journal; returns why that failed."""
        try:
            if not self._is_open:
                self._open()
                self._is_open = True
            self._flush(is_last=is_last)
            if is_last:
                self._end()
        except Exception as error:  # noqa: BLE001 (whatever a view raises: the search goes on)
            self.error = error
            self._is_open = False
            if not self._is_refused(error):
                self._tell_away(error)
            return error
        self.error = next((f.error for f in self._failures.values()), None)
        return None

    def _is_refused(self, error: Exception | None) -> bool:
        """Return whether the caller learns from the first attempt that there is no use in it."""
        is_first = self._is_awaited and not self._tried.is_set()
        return is_first and isinstance(error, InputError | RefusedError)

    def _open(self) -> None:
        """Connect, and queue the ended trials that the view lacks, from this run or earlier ones.

        Trials that have not ended are shown when somebody trains them, or at the end.
        """
        self._view.open()
        self._answered_s = time.monotonic()
        self._view.show_running()
        records, self._earlier = self._earlier, None
        unreadable: dict[int, JournalError] = {}
        if records is None:
            records = []
            for number in self._journal.numbers():
                try:
                    records.append(self._journal.read(number))
                except JournalError as error:
                    unreadable[number] = error
        lacking = set(self._view.lacking(records, unreadable))
        for number, damage in unreadable.items():
            self._note(number, damage)
        with self._lock:
            for number in unreadable:
                self._pending.setdefault(number, None)
            for record in records:
                if record.outcome is None:
                    self._unfinished.setdefault(record.number, record)
                elif record.number in lacking:
                    self._pending.setdefault(record.number, None)

    def _flush(self, *, is_last: bool) -> None:
        """Send what is queued and due; at the end, whatever is queued."""
        now_s = time.monotonic()
        with self._lock:
            due = [
                number
                for number in sorted(self._pending)
                if is_last or number not in self._failures or self._failures[number].due_s <= now_s
            ]
        for number in due:
            with self._lock:
                record = self._pending.pop(number)
            if not self._send(number, record, is_last=is_last):
                with self._lock:
                    self._pending.setdefault(number, record)

    def _send(
        self,
        number: int,
        record: TrialRecord | None,
        *,
        is_last: bool,
        is_idle: bool = False,
    ) -> bool:
        """Show one trial; whether it is shown. One that is not must not keep the others out."""
        try:
            whole = record or self._journal.read(number)
            self._view.show_trial(whole, self._journal, is_idle=is_idle)
        except Exception as error:  # noqa: BLE001 (see above)
            if not isinstance(error, JournalError):
                try:
                    self._view.open()  # fails where the view is away, and not this trial at fault
                except BaseException:
                    with self._lock:
                        self._pending.setdefault(number, record)
                    raise
            self._note(number, error, is_last=is_last)
            return False
        self._answered_s = time.monotonic()
        self._failures.pop(number, None)
        return True

    def _end(self) -> None:
        """Show that the search has ended."""
        with self._lock:
            unfinished = list(self._unfinished.values())
        for record in unfinished:
            if record.number not in self._failures:
                self._send(record.number, record, is_last=True, is_idle=True)
        if self._summary is not None:
            self._view.show_study(self._summary)

    def _note(self, number: int, error: Exception, *, is_last: bool = False) -> None:
        """Note that an attempt at a trial has failed; say so after some, and at the last one."""
        failure = self._failures.setdefault(number, _Failure(error))
        failure.error = error
        failure.n_tries += 1
        failure.due_s = time.monotonic() + RETRY_S[min(failure.n_tries, len(RETRY_S)) - 1]
        title = self._view.title
        logger.info("trial %d could not be shown in %s", number, title, exc_info=error)
        is_stubborn = failure.n_tries >= MAX_TRIES or isinstance(error, JournalError)
        # What is wrong with one trial may be wrong with all: the others are named at the end.
        if not failure.is_told and (is_last or (is_stubborn and not self._has_told_trial)):
            failure.is_told = self._has_told_trial = True
            self._on_behind(f"trial {number} cannot be shown in {title}: {self._reason(error)}")

    def _tell_away(self, error: Exception) -> None:
        self.error = error
        logger.info("%s is behind", self._view.title, exc_info=error)
        if not self._has_told:
            self._has_told = True
            self._on_behind(
                f"{self._view.title} is unreachable; the search continues and results are kept "
                f"locally: {self._reason(error)} ({without_password(self._view.uri)})"
            )

    def _reason(self, error: Exception) -> str:
        """Format an error as one line without a password."""
        if isinstance(error, MMSearchError):
            return without_secrets(str(error), self._view.uri)
        return first_line(error, self._view.uri)
