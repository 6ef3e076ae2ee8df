"""The lock of a study: one process at a time searches, confirms, syncs or tests it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from typing import IO, TYPE_CHECKING, Any

from mmsearch.errors import MMSearchError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mmsearch.tracking.journal.journal import Journal

ASK_S = 0.1
"""Seconds for which `is_owned` may hold a lock."""


@contextlib.contextmanager
def own(journal: Journal) -> Iterator[None]:
    """Hold the lock of a study, which is released when the process ends, however it ends.

    Raises:
        RefusedError: another process holds it.
        MMSearchError: the lock file cannot be written.
    """
    path = _lock_path(journal)
    try:
        opened = path.open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise MMSearchError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    with opened as file:
        is_ours = _try_lock(file, fcntl.LOCK_EX)
        if not is_ours:
            # `is_owned` of another command holds the lock for a moment.
            time.sleep(ASK_S)
            is_ours = _try_lock(file, fcntl.LOCK_EX)
        if not is_ours:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise RefusedError(
                f"study {journal.name!r} is in use by {owner}; wait for it, stop it, or use "
                "another study with --study"
            )
        file.truncate(0)
        # On a full disk the lock works without the name, and the journal will report the disk.
        with contextlib.suppress(OSError):
            os.write(file.fileno(), f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def is_owned(journal: Journal) -> bool:
    """Return whether a process holds the lock of a study.

    Raises:
        MMSearchError: the lock file cannot be read.
    """
    path = _lock_path(journal)
    try:
        with path.open("rb") as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise MMSearchError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _lock_path(journal: Journal) -> Path:
    return journal.folder / "lock"


def _try_lock(file: IO[Any], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
