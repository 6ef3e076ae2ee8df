"""Files of the record: read, replaced atomically or appended to, and locked.

What is written is flushed to the disk before a call returns, unless the call says otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mmsearch.errors import MMSearchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


NEXT_STEP = "restore it from a copy, or start a new study with --study"
"""What the user can do about a damaged file of a study."""

SILENCE_S = 2.0
"""Seconds to wait for a lock without a message."""
_POLL_S = 0.05


class JournalError(MMSearchError):
    """A file of the record is damaged, or cannot be read or written; the message names it."""


def damaged(path: Path | str, why: object, next_step: str = NEXT_STEP) -> JournalError:
    """Return the error for a file with impossible content."""
    return JournalError(f"{str(path)!r} is damaged: {why}", hint=next_step)


def _failed(path: Path | str, verb: str, error: OSError) -> JournalError:
    return JournalError(f"{str(path)!r} cannot be {verb}: {error.strerror}")


@contextlib.contextmanager
def _named(path: Path, verb: str) -> Iterator[None]:
    """Raise an `OSError` as a `JournalError` that names the path."""
    try:
        yield
    except OSError as error:
        raise _failed(path, verb, error) from error


def exists(path: Path) -> bool:
    """Return whether there is anything at a path, a dangling link included."""
    with _named(path, "read"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()
        return True
    return False


def listed(folder: Path) -> list[str]:
    """Return the sorted names in a folder; empty where there is no folder."""
    with _named(folder, "read"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path.name for path in folder.iterdir())
    return []


def read_bytes(path: Path) -> bytes:
    """Read a file."""
    with _named(path, "read"):
        return path.read_bytes()


def read_if_there(path: Path | str) -> bytes | None:
    """Read a file; None where there is nothing, not even a dangling link."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a string may be given)
            return file.read()
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        if is_missing and not Path(path).is_symlink():
            return None
        raise _failed(path, "read", error) from error


def read_json(path: Path, next_step: str = NEXT_STEP) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: the file.
        next_step: what the user can do where it is damaged.
    """
    return _json_object(read_bytes(path), path, next_step)


def read_json_if_there(path: Path | str, next_step: str = NEXT_STEP) -> dict[str, Any] | None:
    """Read a file that holds one JSON object; None where there is nothing."""
    content = read_if_there(path)
    return None if content is None else _json_object(content, path, next_step)


def _json_object(content: bytes, path: Path | str, next_step: str) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, next_step) from error
    if not isinstance(values, dict):
        raise damaged(path, "not a JSON object", next_step)
    return values


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return the content of a file for `read_json`."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A path that is not UTF-8 holds lone surrogates; as JSON's escapes they read back.
    return text.encode("utf-8", "backslashreplace")


def make_folder(folder: Path) -> None:
    """Make a folder, private to its owner, if it is missing."""
    with _named(folder, "made"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a temporary folder, and delete it afterwards.

    Raises:
        MMSearchError: no folder for temporary files can be written.
    """
    try:
        folder = Path(tempfile.mkdtemp())
    except OSError as error:
        raise MMSearchError(
            f"no temporary folder can be made: {error.strerror}; name a folder that can be "
            "written with TMPDIR"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def private(path: str, flags: int) -> int:
    """Open a file, as an `opener`; a new one is private to its owner."""
    return os.open(path, flags, 0o600)


def opened(path: Path) -> IO[str]:
    """Open a file for appending, such as one to lock; a new one is private to its owner."""
    with _named(path, "written"):
        return open(path, "a", opener=private)


def to_stderr(line: str) -> None:
    """Print a line to the current `sys.stderr`, which a live display may have replaced."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def lock(file: IO[Any], path: Path, say: Callable[[str], None] = to_stderr) -> None:
    """Lock an open file until it is closed; waits for other processes.

    Args:
        file: the file to lock.
        path: its name, for the message.
        say: called with a message once waiting takes longer than `SILENCE_S`.
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
    say(f"waiting for another process that has locked {str(path)!r}; find it with fuser")
    fcntl.flock(file, fcntl.LOCK_EX)


def append(path: Path, content: bytes) -> None:
    """Append to a file."""
    with _named(path, "written"), open(path, "ab", opener=private) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(path: Path) -> None:
    """Flush a file that was written before, and its name, to the disk."""
    with _named(path, "written"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        _sync_folder(path.parent)


def replace(
    path: Path,
    content: bytes,
    opener: Callable[[str, int], int] | None = private,
    *,
    is_flushed: bool = True,
) -> None:
    """Write a file atomically: readers and a killed process leave the old or the new one, whole.

    Args:
        path: the file.
        content: its new content.
        opener: opens the new file; None for permissions according to the umask.
        is_flushed: whether to flush it to the disk, so that it also survives a loss of power.
    """
    fresh = path.with_name(f".{path.name}.new")
    with _named(path, "written"):
        with open(fresh, "wb", opener=opener) as file:
            file.write(content)
            file.flush()
            if is_flushed:
                os.fsync(file.fileno())
        fresh.replace(path)
        if is_flushed:
            _sync_folder(path.parent)
