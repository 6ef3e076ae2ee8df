"""Waiting for a storage that is away: a server that restarts, a file that another process holds."""

from __future__ import annotations

import itertools
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy

T = TypeVar("T")

PATIENCE_S = 60.0
"""Seconds for which a call is tried again."""
WAITS_S = (0.1, 0.2, 0.5, 1.0)
"""Seconds between one try and the next; then the last one again."""
POLL_S = 0.1
"""Seconds after which a wait looks whether it shall go on."""


class AwayError(Exception):
    """The storage did not answer, and a call may or may not have arrived.

    None of SQLAlchemy's, after which Optuna begins a second trial by itself: whoever calls must
    find out first whether there is one.
    """


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the file; on a full disk, say, waiting makes no room."""
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Patience:
    """Tries calls to a storage again until it answers, for a while and until it is stopped."""

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Prepare it; `say` is told, in a line, of each time that the storage is away."""
        self._say = say
        self._is_over = False

    def stop(self) -> None:
        """Wait no more; may be called from a signal handler."""
        self._is_over = True

    def watch(self, engine: sqlalchemy.Engine) -> None:
        """Make what an engine raises while its database is away an `AwayError`."""
        import sqlalchemy  # noqa: PLC0415 (slow, and the coordinator imports this early)

        def on_error(context: sqlalchemy.ExceptionContext) -> None:
            away = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
            error = context.original_exception
            is_other = isinstance(error, sqlite3.Error) and not is_busy(error)
            if isinstance(context.sqlalchemy_exception, away) and not is_other:
                first = (str(error).strip().splitlines() or [""])[0]
                raise AwayError(first or type(error).__name__)

        sqlalchemy.event.listen(engine, "handle_error", on_error)

    def call(self, attempt: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Call once, and again while the storage is away.

        Args:
            attempt: the call.
            again: the same for a call that may have arrived already; None where twice is as once.

        Raises:
            AwayError: it stayed away for `PATIENCE_S`, or `stop` was called.
        """
        deadline = time.monotonic() + PATIENCE_S
        try:
            return attempt()
        except AwayError as error:
            if not self._is_over:
                self._say(f"the Optuna storage is away, and the search waits for it: {error}")
            last = error
        for wait_s in itertools.chain(WAITS_S, itertools.repeat(WAITS_S[-1])):
            self._sleep(min(time.monotonic() + wait_s, deadline))
            if self._is_over or time.monotonic() >= deadline:
                break
            try:
                return (again or attempt)()
            except AwayError as error:
                last = error
        self._is_over = True  # who cleans up must not wait as long again
        raise last

    def _sleep(self, until: float) -> None:
        # Not on an event, whose lock a signal handler could not take.
        while not self._is_over and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, POLL_S))
