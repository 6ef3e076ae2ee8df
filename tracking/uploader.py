"""The thread that brings a view of the journal up to date while the search goes on.

MLflow and Optuna's storage are views: each is filled from the journal alone, and can be rebuilt
from it at any time.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsearch.errors import InputError, MMSearchError, RefusedError
from mmsearch.secrets import without_password, without_secrets
from mmsearch.tracking import receipts
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.mlflow.client import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.study_summary import StudySummary
    from mmsearch.tracking.view import View

FLUSH_S = 2.0
"""Seconds between sending updates of running trials."""
POLL_S = 0.2
"""Seconds between the checks of a waiting `close` whether it has been abandoned."""
BUSY = 0.2
"""Share of its time that a coordinator works, from which on uploads give way to it."""
SHARE = 0.05
"""Share of the time that an uploader takes at most while the coordinator is that busy, because both
run Python in one process."""
GRACE_S = 10.0
"""Seconds that `close` waits for a view that has failed before and does not answer."""
RETRY_S = (2, 5, 15, 30, 60)
"""Seconds to wait after the first failure in a row, the second, and so on; then the last again."""
MAX_TRIES = 4
"""Failed attempts after which a trial is given up for this process."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class IdleTime:
    """How long a coordinator has waited for results so far."""

    seconds: float = 0.0


@dataclass(slots=True)
class _Failure:
    """Failed attempts to show one trial, with the view open: the trial is at fault."""

    error: Exception
    n_tries: int = 0
    due_s: float = 0.0
    """Monotonic time of the next attempt."""
    is_reported: bool = False

    @property
    def is_given_up(self) -> bool:
        """Whether the trial is not tried again by this process."""
        return self.n_tries >= MAX_TRIES


class Uploader:
    """Sends the journal to a view, from a thread of its own.

    A view that is away, slow or broken never stops the caller: what could not be sent is tried
    again, and is in the journal for the next command. A trial that cannot be shown while the view
    works is given up after `MAX_TRIES` attempts, and the others are sent. `show` and `close` must
    be called from one thread.
    """

    def __init__(  # noqa: PLR0913 (what is sent, and how it is waited for)
        self,
        view: View,
        journal: Journal,
        on_behind: Callable[[str], None],
        earlier: Sequence[TrialRecord] | None = None,
        *,
        on_open: Callable[[], None] = lambda: None,
        is_awaited: bool = False,
        is_idle: bool = False,
        receipt: Path | None = None,
        idle: IdleTime | None = None,
    ) -> None:
        """Prepare the thread.

        Args:
            view: the view; used by the thread alone once it has started.
            journal: what to send.
            on_behind: called from the thread with a message, once when the view cannot be reached,
                and for each trial that cannot be shown.
            earlier: the trials of the journal, where they have been read already.
            on_open: called from the thread each time that the view has been opened.
            is_awaited: whether the caller waits until the view is open, and itself reports why it
                is refused.
            is_idle: whether no trial is trained meanwhile, so that the study is not RUNNING.
            receipt: where to note that the view is whole; an idle command does not open a view that
                nobody has written to since then.
            idle: how long the coordinator has had nothing to do; None where there is none.
        """
        self._view = view
        self._journal = journal
        self._on_behind = on_behind
        self._earlier = earlier
        self._on_open = on_open
        self._is_awaited = is_awaited
        self._is_idle = is_idle
        self._receipt = receipt
        self._idle = idle
        self._queue: dict[int, TrialRecord | None] = {}
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
        self._is_away_reported = False
        self._is_abandoned = False
        self._answered_s = -math.inf
        """Monotonic time at which the view last carried out a call."""
        self.error: Exception | None = None
        """Why the view is behind; None while it is not."""

    @property
    def title(self) -> str:
        """Name of the view in messages."""
        return self._view.title

    def start(self) -> None:
        """Start the thread; trials that the view lacks are sent first."""
        self._thread.start()

    def wait_until_open(self, timeout_s: float) -> Exception | None:
        """Wait for the first attempt to open the view.

        Returns:
            The error that it raised, or a `TimeoutError` if it does not answer in time; None if it
            is open. After an `InputError` or a `RefusedError` there is no other attempt.
        """
        if not self._tried.wait(timeout_s):
            return TimeoutError()
        return self.error

    def show(self, record: TrialRecord) -> None:
        """Queue a trial's update; does not block."""
        with self._lock:
            if record.outcome is None:
                self._unfinished[record.number] = self._queue[record.number] = record
            else:
                # An ended trial is read from the journal when its turn comes: an outage of hours
                # must not fill the memory.
                self._queue[record.number] = None
                self._unfinished.pop(record.number, None)
        if record.outcome:
            self._wake.set()

    def close(self, summary: StudySummary | None) -> bool:
        """Send the rest and stop.

        Args:
            summary: where the study stands; None where that is not known.

        Returns:
            Whether the view holds everything. False as soon as it fails once more, does not answer
            after it has failed before, or `abandon` is called.
        """
        began_s = time.monotonic()
        self._summary = summary
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive() and not self._is_abandoned and not self._is_lost(began_s):
            self._thread.join(POLL_S)
        return self.error is None and not self._thread.is_alive()

    def stop(self) -> None:
        """End the thread after an error elsewhere, where `close` has not been called."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(GRACE_S)

    def abandon(self) -> None:
        """Make `close` return now; may be called from a signal handler."""
        self._is_abandoned = True

    def _is_lost(self, since_s: float) -> bool:
        """Return whether the view has failed and has not answered for `GRACE_S`."""
        is_behind = self._is_away_reported and self.error is not None
        return is_behind and time.monotonic() - max(since_s, self._answered_s) > GRACE_S

    def _work(self) -> None:
        n_failures = 0
        try:
            if self._is_idle:
                self._closing.wait()
                if self._is_untouched():
                    return
            while True:
                is_last = self._closing.is_set()
                error = self._update(is_last=is_last)
                if is_last or self._is_refused(error):
                    return
                self._tried.set()
                if error is None:
                    n_failures = 0
                    self._wake.wait(FLUSH_S)
                    self._wake.clear()
                else:
                    n_failures += 1
                    self._closing.wait(_delay(n_failures))
        finally:
            self._tried.set()
            try:
                self._view.close()
            except Exception:
                logger.info("%s could not be closed", self._view.title, exc_info=True)

    def _is_untouched(self) -> bool:
        """Return whether the view is whole and nobody has written to it since the receipt."""
        if self._receipt is None or self._summary is None:
            return False
        return receipts.is_valid(self._receipt, self._view.uri, self._summary.digest)

    def _update(self, *, is_last: bool) -> Exception | None:
        """Bring the view up to the journal; return the error if the view fails."""
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
                self._report_away(error)
            return error
        self.error = next((failure.error for failure in self._failures.values()), None)
        return None

    def _is_refused(self, error: Exception | None) -> bool:
        """Return whether the first attempt has shown the waiting caller that there is no use."""
        is_first = self._is_awaited and not self._tried.is_set()
        return is_first and isinstance(error, InputError | RefusedError)

    def _open(self) -> None:
        """Connect, and queue the ended trials that the view lacks, of this run or earlier ones.

        Trials that have not ended are shown when they are trained again, or at the end.
        """
        self._view.open()
        self._on_open()
        self._answered_s = time.monotonic()
        if not self._is_idle:
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
            self._note_failure(number, damage)
        with self._lock:
            for record in records:
                if record.outcome is None:
                    self._unfinished.setdefault(record.number, record)
                elif record.number in lacking:
                    self._queue.setdefault(record.number, None)
            for number in unreadable:
                self._queue.setdefault(number, None)

    def _flush(self, *, is_last: bool) -> None:
        """Send what is queued and due; at the end, everything that is not given up."""
        now_s = time.monotonic()
        with self._lock:
            numbers = sorted(self._queue)
        for number in numbers:
            failure = self._failures.get(number)
            is_due = failure is None or is_last or failure.due_s <= now_s
            if (failure is not None and failure.is_given_up) or not is_due:
                continue
            with self._lock:
                record = self._queue.pop(number)
            is_shown = False
            began_s, idle_s = time.monotonic(), self._idle.seconds if self._idle else 0.0
            try:
                is_shown = self._send(number, record)
            finally:
                if not is_shown:
                    with self._lock:
                        self._queue.setdefault(number, record)
            self._give_way(began_s, idle_s)

    def _give_way(self, began_s: float, idle_s: float) -> None:
        """After some work, wait so that a busy coordinator is hardly slowed; never in `close`.

        Args:
            began_s: when the work began.
            idle_s: the coordinator's seconds without work until then.
        """
        free_s = began_s + (time.monotonic() - began_s) / SHARE
        while self._idle and not self._closing.is_set() and (now_s := time.monotonic()) < free_s:
            if self._idle.seconds - idle_s >= (1 - BUSY) * (now_s - began_s):
                return
            self._closing.wait(min(POLL_S, free_s - now_s))

    def _send(self, number: int, record: TrialRecord | None, *, is_idle: bool = False) -> bool:
        """Show one trial; return whether it is shown. Raises only if the view is away."""
        try:
            current = record or self._journal.read(number)
            self._view.show_trial(current, self._journal, is_idle=is_idle)
        except Exception as error:  # noqa: BLE001 (see above)
            if not isinstance(error, JournalError):
                # Raise where the view cannot be read or written: the trial is not at fault then.
                self._view.open()
                self._view.show_running()
            self._note_failure(number, error)
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
                self._send(record.number, record, is_idle=True)
        for number in self._failures:
            self._report_trial(number)
        if self._summary is not None:
            self._view.show_study(self._summary)
            if self._receipt is not None and not self._failures:
                receipts.write(self._receipt, self._view.uri, self._summary.digest)

    def _note_failure(self, number: int, error: Exception) -> None:
        """Note a failed attempt at a trial; report the first trial that is given up or damaged.

        What is wrong with one trial may be wrong with all, so the others are reported at the end.
        """
        failure = self._failures.setdefault(number, _Failure(error))
        failure.error = error
        failure.n_tries += 1
        failure.due_s = time.monotonic() + _delay(failure.n_tries)
        title = self._view.title
        logger.info("trial %d could not be shown in %s", number, title, exc_info=error)
        is_final = failure.is_given_up or isinstance(error, JournalError)
        if is_final and not any(other.is_reported for other in self._failures.values()):
            self._report_trial(number)

    def _report_trial(self, number: int) -> None:
        failure = self._failures[number]
        if not failure.is_reported:
            failure.is_reported = True
            reason = self._reason(failure.error)
            self._on_behind(f"trial {number} cannot be shown in {self._view.title}: {reason}")

    def _report_away(self, error: Exception) -> None:
        logger.info("%s is behind", self._view.title, exc_info=error)
        if not self._is_away_reported:
            self._is_away_reported = True
            self._on_behind(
                f"{self._view.title} is unreachable; the search continues and results are kept "
                f"locally: {self._reason(error)} ({without_password(self._view.uri)})"
            )

    def _reason(self, error: Exception) -> str:
        """Format an error on one line, with passwords masked."""
        if isinstance(error, MMSearchError):
            return without_secrets(str(error), self._view.uri)
        return first_line(error, self._view.uri)


def _delay(n_failures: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return RETRY_S[min(n_failures, len(RETRY_S)) - 1]
