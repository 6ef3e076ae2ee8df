"""The thread that keeps MLflow up with the journal, off the path that workers wait for."""

from __future__ import annotations

import gc
import math
import threading
import time
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.tracking.files import JournalError
from mmsearch.tracking.store import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmsearch.tracking.journal import Journal, TrialRecord
    from mmsearch.tracking.mlflow import StudyTracker
    from mmsearch.tracking.rendering import StudySummary

FLUSH_S = 2.0
"""Seconds for which points are gathered before they are sent."""
POLL_S = 0.2
"""Seconds after which a waiting `close` looks whether it has been abandoned."""
GRACE_S = 10.0
"""Seconds for which `close` waits for an MLflow that is behind and does not answer."""
RETRY_S = (2, 5, 15, 30, 60)
"""Seconds to wait after each failure in a row; then the last one again."""


class Mirror:
    """Sends what the journal holds to MLflow from a thread of its own.

    MLflow away, slow or broken never stops the caller: what could not be sent is kept, tried
    again, and stays in the journal for the next run. `show` and `close` are for one caller.
    """

    def __init__(
        self, tracker: StudyTracker, journal: Journal, on_behind: Callable[[str], None]
    ) -> None:
        """Prepare it.

        Args:
            tracker: where to; used by the thread alone once it has started.
            journal: whence.
            on_behind: told once, from the thread, when MLflow cannot be reached.
        """
        self._tracker = tracker
        self._journal = journal
        self._on_behind = on_behind
        self._pending: dict[int, TrialRecord | None] = {}
        self._damage: dict[int, JournalError] = {}
        self._summary: StudySummary | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self._has_told = False
        self._is_abandoned = False
        self._answered_s = -math.inf
        """Monotonic time of the last call that was carried out."""
        self.error: Exception | None = None
        """Why MLflow is behind; None while it is not."""

    def start(self) -> None:
        """Begin; ended trials that MLflow lacks are shown first."""
        self._thread.start()

    def show(self, record: TrialRecord) -> None:
        """Note that a trial has news; returns at once."""
        with self._lock:
            # An ended trial is read from the journal when its turn comes: an outage of hours
            # must not fill the memory.
            self._pending[record.number] = None if record.outcome else record
        if record.outcome:
            self._wake.set()

    def close(self, summary: StudySummary) -> bool:
        """Send the rest and stop.

        Returns:
            Whether MLflow holds everything; False as soon as it fails once more, does not answer
            after it has failed before, or is abandoned.
        """
        began_s = time.monotonic()
        self._summary = summary
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive() and not self._is_abandoned and not self._is_lost(began_s):
            self._thread.join(POLL_S)
        return self.error is None and not self._thread.is_alive()

    def abandon(self) -> None:
        """Make `close` return now; may be called from a signal handler."""
        self._is_abandoned = True

    def _is_lost(self, since_s: float) -> bool:
        """Whether MLflow is behind, and has not answered for a while; the call may go on longer."""
        is_behind = self.error is not None and not isinstance(self.error, JournalError)
        return is_behind and time.monotonic() - max(since_s, self._answered_s) > GRACE_S

    def _work(self) -> None:
        is_open = False
        n_failures = 0
        while True:
            try:
                if not is_open:
                    self._tracker.open()
                    self._answered_s = time.monotonic()
                    self._tracker.show_running()
                    self._add_missing()
                    is_open = True
                    if not gc.get_freeze_count():
                        gc.freeze()  # what is imported by now stays, and is 0.15 s a look
                is_last = self._closing.is_set()
                self._flush()
                if is_last and self._summary is not None:
                    self._tracker.show_study(self._summary)
                n_failures = 0
                self.error = damage = next(iter(self._damage.values()), None)
                if damage is not None:
                    self._tell(damage)
            except Exception as error:  # noqa: BLE001 (whatever MLflow raises: the search goes on)
                self._tell(error)
                is_open = False
                n_failures += 1
                if self._closing.is_set():
                    return
                self._closing.wait(RETRY_S[min(n_failures, len(RETRY_S)) - 1])
            else:
                if is_last:
                    return
                self._wake.wait(FLUSH_S)
                self._wake.clear()

    def _add_missing(self) -> None:
        """Queue the ended trials that MLflow lacks, from this run or from earlier ones."""
        with self._lock:
            for number in self._tracker.missing(self._journal):
                self._pending.setdefault(number, None)

    def _flush(self) -> None:
        with self._lock:
            numbers = sorted(self._pending)
        for number in numbers:
            with self._lock:
                record = self._pending.pop(number)
            try:
                self._tracker.show_trial(record or self._journal.read(number), self._journal)
                self._answered_s = time.monotonic()
                self._damage.pop(number, None)
            except JournalError as error:
                # A trial whose files are damaged must not keep the others out.
                self._damage[number] = error
            except BaseException:
                with self._lock:
                    self._pending.setdefault(number, record)
                raise

    def _tell(self, error: Exception) -> None:
        self.error = error
        if not self._has_told:
            self._has_told = True
            known = isinstance(error, MMSearchError)
            reason = str(error) if known else first_line(error)
            self._on_behind(reason)
