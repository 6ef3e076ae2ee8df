"""The folder that holds studies: their names, files and locks."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mmsearch.errors import InputError, MMSearchError, RefusedError
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[^\W_](?:[\w.-]{0,98}[\w-])?")
_RESERVED = re.compile(r"artifacts|lock|logs|(?:mlflow|optuna)\.db(?:-.*)?", re.IGNORECASE)
"""What else stands in the workspace; a disk may not tell cases apart."""
ASK_S = 0.1
"""Seconds after which a lock that was only asked about is free again."""
_MAX_BYTES = 255
"""Of a folder's name, on the usual file systems."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where studies, their databases and artifacts live; made private to its owner."""

    root: Path
    """Absolute."""

    @classmethod
    def at(cls, path: Path) -> Workspace:
        """Name a workspace by its path.

        Raises:
            InputError: the path is no text, which databases are named by; or something in it
                leads out of it.
        """
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"the workspace {str(path)!a} must have a name in UTF-8; name another with "
                "--workspace"
            ) from None
        root = path.absolute()
        for odd in _odd_entries(root):
            raise InputError(
                f"{odd!r} is a link, or no file at all, and a workspace has files and folders of "
                "its own alone: whoever made it could lead a command anywhere; move it away (the "
                "workspace as a whole may be a link)"
            )
        return cls(root)

    def create(self) -> None:
        """Make the folder.

        Raises:
            MMSearchError: it cannot be made.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise MMSearchError(
                f"the workspace {str(self.root)!r} cannot be made: {error.strerror}; "
                "name another with --workspace"
            ) from error

    def journal(self, study: str) -> Journal:
        """Give a study's journal, whether or not it has begun.

        Raises:
            InputError: the name cannot be a folder's.
        """
        check_name(study)
        return Journal(self.root / study)

    def studies(self) -> list[str]:
        """Names of the studies that have begun.

        Raises:
            JournalError: the workspace cannot be read.
        """
        names = files.listed(self.root)
        return [name for name in names if files.exists(self.root / name / "study.json")]

    def existing(self, study: str | None) -> Journal:
        """Settle which study is meant: the named one, or the only one.

        Raises:
            InputError: there is none, or there are several and none is named.
        """
        names = self.studies()
        if study is not None:
            check_name(study)
            if study not in names:
                have = f"it has {', '.join(names)}" if names else "it has none"
                raise InputError(
                    f"no study {study!r} in {str(self.root)!r} ({have}); "
                    f"start it with: mmsearch run --study {study}"
                )
            return self.journal(study)
        if not names:
            raise InputError(f"no study in {str(self.root)!r}; start one with: mmsearch run")
        if len(names) > 1:
            raise InputError(
                f"{str(self.root)!r} has several studies; name one with --study: {', '.join(names)}"
            )
        return self.journal(names[0])

    @contextlib.contextmanager
    def locked(self, database: str) -> Iterator[None]:
        """Hold a database while it is created, which neither library does safely.

        Waits for another process that holds it, and says so on standard error.

        Args:
            database: `optuna` or `mlflow`.

        Raises:
            MMSearchError: the lock cannot be written.
        """
        path = self.root / f"{database}.db-lock"
        try:
            file = path.open("a")
        except OSError as error:
            raise MMSearchError(f"{str(path)!r} cannot be written: {error.strerror}") from error
        with file:
            files.lock(file, path)
            yield


def _odd_entries(root: Path) -> Iterator[str]:
    """Find what is neither a file nor a folder, at any depth; links are not followed."""
    folders = [str(root)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        yield entry.path
        except OSError:
            continue  # not there, or just gone; what cannot be read is told by who reads it


@contextlib.contextmanager
def own(journal: Journal) -> Iterator[None]:
    """Be a study's one coordinator; the lock ends with the process, however it ends.

    Raises:
        RefusedError: another process is; names its pid and host.
    """
    path = _lock_path(journal)
    try:
        opened = path.open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise MMSearchError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    with opened as file:
        is_ours = _try_lock(file, fcntl.LOCK_EX)
        if not is_ours:
            # A command that only asks (see is_owned) holds the lock for a moment.
            time.sleep(ASK_S)
            is_ours = _try_lock(file, fcntl.LOCK_EX)
        if not is_ours:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise RefusedError(
                f"study {journal.name!r} is in use by {owner}; wait for it, stop it, or name "
                "another study with --study"
            )
        file.truncate(0)
        # A full disk takes no name, and is a lock all the same; the journal will tell of it.
        with contextlib.suppress(OSError):
            os.write(file.fileno(), f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def is_owned(journal: Journal) -> bool:
    """Whether a process is searching a study now.

    Raises:
        MMSearchError: that cannot be told.
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


def options_of(journal: Journal) -> str:
    """Give the options that name a study from any folder and any shell."""
    words = ["--study", journal.name]
    if journal.folder.parent != Path("runs").absolute():
        words += ["--workspace", str(journal.folder.parent)]
    return " " + shlex.join(words)


def check_name(study: str) -> None:
    """Check that a study's name is one folder's name, and stays one in a URL and a tag.

    Raises:
        InputError: it is not.
    """
    if _RESERVED.fullmatch(study):
        raise InputError(
            f"a study cannot be named {study!r}: the workspace has a file or folder of that name; "
            "name it otherwise with --study"
        )
    if not _NAME.fullmatch(study) or len(study.encode()) > _MAX_BYTES:
        raise InputError(
            "a study's name has 1 to 100 letters, digits, '-', '_' or '.', and begins with a "
            f"letter or digit; at most {_MAX_BYTES} bytes in all; got "
            f"{json.dumps(study[:120], ensure_ascii=False)}"
        )


def name_from(corpus: Path) -> str:
    """Make a study's name from a corpus file's name."""
    name = re.sub(r"[^\w.-]+", "-", corpus.stem).strip("-_.")
    if _RESERVED.fullmatch(name):
        name = f"study-{name}"
    return name[:100].encode()[:_MAX_BYTES].decode(errors="ignore").rstrip(".") or "study"
