"""Files that survive: replaced atomically or appended to, and on the disk before a call returns.

And locks, which processes of one machine wait for.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from mmsearch.errors import MMSearchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


NEXT_STEP = "put it back from a copy, or begin a new study with --study"
"""What a person can do about a damaged file of a study."""

SILENCE_S = 2.0
"""Seconds for which a lock is waited for without a word."""
_POLL_S = 0.05


class JournalError(MMSearchError):
    """A file of the record is damaged or cannot be written; names the file."""


def damaged(path: Path, why: object, next_step: str = NEXT_STEP) -> JournalError:
    """Make the error of a file that is not what was written."""
    return JournalError(f"{str(path)!r} is damaged: {why}; {next_step}")


def exists(path: Path) -> bool:
    """Whether there is anything of this name.

    Raises:
        JournalError: that cannot be told.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise JournalError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    return True


def listed(folder: Path) -> list[str]:
    """Give the names in a folder, sorted; none where there is no folder.

    Raises:
        JournalError: it cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise JournalError(f"{str(folder)!r} cannot be read: {error.strerror}") from error


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        JournalError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def read_json(path: Path, next_step: str = NEXT_STEP) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: where.
        next_step: what a person can do where it is damaged.

    Raises:
        JournalError: it cannot be read, or is damaged.
    """
    content = read_bytes(path)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, next_step) from error
    if not isinstance(values, dict):
        raise damaged(path, "not a JSON object", next_step)
    return values


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Give what `read_json` reads."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A path that is not UTF-8 holds lone surrogates; as JSON's escapes they read back.
    return text.encode("utf-8", "backslashreplace")


def make_folder(folder: Path) -> None:
    """Make a folder, private to its owner.

    Raises:
        JournalError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"{str(folder)!r} cannot be made: {error.strerror}") from error


def private(path: str, flags: int) -> int:
    """Open a file that nobody else may read, where it is new; an `opener`."""
    return os.open(path, flags, 0o600)


def to_stderr(line: str) -> None:
    """Print a line to standard error, wherever that leads now: a display may have replaced it."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def lock(file: IO[Any], path: Path, say: Callable[[str], None] = to_stderr) -> None:
    """Lock an open file for this process alone, until it is closed; waits for others.

    Args:
        file: what is locked.
        path: its name.
        say: told, in a line, which file is waited for, once that takes longer than `SILENCE_S`.
    """
    deadline = time.monotonic() + SILENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL_S)
        else:
            return
    say(f"waiting for another process, which holds {str(path)!r}; fuser tells which one")
    fcntl.flock(file, fcntl.LOCK_EX)


def append(path: Path, content: bytes) -> None:
    """Append to a file, and return once it is on the disk.

    Raises:
        JournalError: it cannot be written.
    """
    try:
        with open(path, "ab", opener=private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise JournalError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Bring a file's name to the disk, which a loss of power could take back."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(path: Path) -> None:
    """Bring a file and its name to the disk.

    Raises:
        JournalError: it cannot be written.
    """
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        raise JournalError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def replace(
    path: Path,
    content: bytes,
    opener: Callable[[str, int], int] | None = private,
    *,
    is_flushed: bool = True,
) -> None:
    """Replace a file, so that a reader and a killed process see the old or the new one, whole.

    Args:
        path: the file.
        content: what it shall hold.
        opener: of the new file; None to let the umask say who may read it.
        is_flushed: whether it is on the disk before the call returns, so that it survives a loss
            of power, too.

    Raises:
        JournalError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        with open(fresh, "wb", opener=opener) as file:
            file.write(content)
            file.flush()
            if is_flushed:
                os.fsync(file.fileno())
        fresh.replace(path)
        if is_flushed:
            _sync_folder(path.parent)
    except OSError as error:
        raise JournalError(f"{str(path)!r} cannot be written: {error.strerror}") from error
