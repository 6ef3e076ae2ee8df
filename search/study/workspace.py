"""The workspace: the folder that holds studies, their databases and artifacts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.errors import InputError, MMSearchError
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[^\W_](?:[\w.-]{0,98}[\w-])?")
_RESERVED = re.compile(r"artifacts|lock|logs|(?:mlflow|optuna)\.db(?:-.*)?", re.IGNORECASE)
"""Other names in a workspace; a file system may ignore case."""
_typed: dict[Path, Path] = {}
"""How the workspaces were named, by their absolute paths, for hints."""
_MAX_BYTES = 255
"""Longest folder name on common file systems, in bytes."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder of studies with their databases and artifacts, readable by its owner only."""

    root: Path
    """Absolute path."""

    @classmethod
    def at(cls, path: Path) -> Workspace:
        """Return the workspace at a path, which need not exist yet.

        Raises:
            InputError: the path is not UTF-8, which database URLs require, or a file in the
                workspace is a link out of it.
        """
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"the workspace {str(path)!a} must have a name in UTF-8; name another with "
                "--workspace"
            ) from None
        root = path.absolute()
        _typed[root] = path
        for odd in _odd_entries(root):
            raise InputError(
                f"{odd!r} is a link or a special file, through which a command could write outside "
                "the workspace; move it away (only the workspace itself and its folder artifacts "
                "may be links)"
            )
        return cls(root)

    def create(self) -> None:
        """Create the folder.

        Raises:
            MMSearchError: it cannot be created.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise MMSearchError(
                f"the workspace {str(self.root)!r} cannot be created: {error.strerror}; "
                "name another with --workspace"
            ) from error

    @contextlib.contextmanager
    def writable(self) -> Iterator[Workspace]:
        """Yield this workspace or, where its MLflow database cannot be written, a temporary copy.

        The copy shares the artifacts. MLflow writes to whatever database it opens.
        """
        database = self.root / "mlflow.db"
        if all(os.access(path, os.W_OK) for path in (self.root, database) if path.exists()):
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
            copy = Workspace(Path(folder))
            for name in (database.name, f"{database.name}-wal"):
                if (self.root / name).exists():
                    shutil.copyfile(self.root / name, copy.root / name)
            (copy.root / "artifacts").symlink_to(self.root / "artifacts")
            yield copy

    def journal(self, study: str) -> Journal:
        """Return the journal of a study, which need not exist yet.

        Raises:
            InputError: the name is invalid.
        """
        check_name(study)
        return Journal(self.root / study)

    def studies(self) -> list[str]:
        """Return the names of all studies.

        Raises:
            JournalError: the workspace cannot be read.
        """
        names = files.listed(self.root)
        return [name for name in names if files.exists(self.root / name / "study.json")]

    def existing(self, study: str | None) -> Journal:
        """Return the journal of the named study, or of the only one.

        Raises:
            InputError: there is no such study, or there are several and none is named.
        """
        names = self.studies()
        if study is not None:
            check_name(study)
            if study not in names:
                have = f"it has {', '.join(names)}" if names else "it has none"
                raise InputError(
                    f"no study {study!r} in {str(self.root)!r} ({have}); "
                    f"start it with: mmsearch run{options_in(self.root, study)}"
                )
            return self.journal(study)
        if not names:
            raise InputError(
                f"no study in {str(self.root)!r}; start one with: mmsearch run"
                f"{options_in(self.root)}"
            )
        if len(names) > 1:
            raise InputError(
                f"{str(self.root)!r} has several studies; name one with --study: {', '.join(names)}"
            )
        return self.journal(names[0])

    @contextlib.contextmanager
    def locked(self, database: str) -> Iterator[None]:
        """Hold the lock under which a database is created, which neither library does safely.

        Waits for another process that holds it, and prints so on standard error.

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
    """Yield what is neither a file nor a folder at any depth, except a linked `artifacts`."""
    folders, linked = [str(root)], str(root / "artifacts")
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=entry.path == linked):
                        folders.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        yield entry.path
        except OSError:
            continue  # it does not exist (any more), or reading it will raise an error


def options_of(journal: Journal) -> str:
    """Return the options that select a study, as `options_in`."""
    return options_in(journal.folder.parent, journal.name)


def options_in(root: Path, study: str | None = None) -> str:
    """Return the options that select a workspace and a study in it, quoted for a shell.

    Args:
        root: absolute path of the workspace, which is named as it was typed.
        study: the name of the study; None for none.
    """
    words = ["--study", study] if study is not None else []
    typed = _typed.get(root, root)
    if str(typed) not in {"runs", os.environ.get("MMSEARCH_WORKSPACE")}:
        words += ["--workspace", str(typed)]
    return "".join(f" {shlex.quote(word)}" for word in words)


def check_name(study: str) -> None:
    """Check that a study's name is safe as a folder's name, in a URL and in a tag.

    Raises:
        InputError: it is not.
    """
    if _RESERVED.fullmatch(study):
        raise InputError(
            f"a study cannot be named {study!r}, which the workspace uses itself; choose another "
            "name with --study"
        )
    if not _NAME.fullmatch(study) or len(study.encode()) > _MAX_BYTES:
        raise InputError(
            "a study's name has 1 to 100 letters, digits, '-', '_' or '.', and begins with a "
            f"letter or digit, at most {_MAX_BYTES} bytes in all, got "
            f"{json.dumps(study[:120], ensure_ascii=False)}"
        )


def name_from(corpus: Path) -> str:
    """Return a study's name for a corpus file."""
    name = re.sub(r"[^\w.-]+", "-", corpus.stem).strip("-_.")
    if _RESERVED.fullmatch(name):
        name = f"study-{name}"
    return name[:100].encode()[:_MAX_BYTES].decode(errors="ignore").rstrip(".") or "study"
