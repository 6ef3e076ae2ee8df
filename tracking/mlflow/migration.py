"""Brings a local MLflow database to the schema of the MLflow that is installed.

MLflow 3.18 migrates a database of 3.17 as it opens it: without a word, without a lock, and not in
one transaction, so that a process that is killed meanwhile leaves one that nothing opens again.
3.17 asks for `mlflow db upgrade` instead, and of a database that a newer MLflow has written as
well, where that cannot help. So we look first, migrate a copy, and put it into the database's
place in one transaction of SQLite's: whoever has the database open goes on with it, and its
journal or its write-ahead log are never those of another file.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.tracking.journal.files import lock
from mmsearch.tracking.mlflow.relocate import local_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT_S = 60
"""Seconds to wait for another process."""
_MAX_TRIES = 3
"""Migrations of a database that others write to meanwhile."""

_ERROR = re.compile(r"[\w.]+(Error|Exception)\b")
"""How the line of a traceback begins that says what happened."""

_logger = logging.getLogger(__name__)


def migrate(database: Path) -> None:
    """Bring a database of an older MLflow to the schema of the installed one; say so in a line.

    Of two processes one waits for the other. A database without a revision is left to MLflow.

    Args:
        database: an existing SQLite file with MLflow's tables.

    Raises:
        MMSearchError: a newer MLflow has written it, it cannot be read or migrated, or others keep
            writing to it. It is as it was.
    """
    try:
        _migrate(database)
    except (sqlite3.Error, OSError) as error:
        raise MMSearchError(
            f"{str(database)!r} cannot be read, or cannot be migrated for this MLflow: {error}"
        ) from error


def _migrate(database: Path) -> None:
    found = _revision(database)
    if found is None:
        return
    try:
        head, known = _installed_revisions()
    except Exception as error:  # noqa: BLE001 (of a layout of MLflow's files that we do not know)
        _logger.warning(
            "%s: the schema that this MLflow expects cannot be read (%s); MLflow is left to open "
            "the database as it likes",
            database,
            type(error).__name__,
        )
        return
    if found == head:
        return
    if found not in known:
        raise MMSearchError(
            f"{str(database)!r} was written by a newer MLflow than {_version()}, which is "
            "installed; install that one or a newer, or move the file and artifacts/ away and run "
            "mmsearch sync, which rebuilds them from the workspace"
        )
    copy = database.with_name(f".{database.name}.migrating")
    # Two workspaces may share a database, and each has locks of its own.
    lock_path = database.with_name(f".{database.name}.migrating-lock")
    with lock_path.open("a") as file:
        lock(file, lock_path)
        try:
            if _revision(database) == head:
                return  # the other one has done it
            _migrate_by_copy(database, copy, head)
        finally:
            _remove(copy)
            lock_path.unlink(missing_ok=True)
    _logger.warning(
        "%s: written by an older MLflow, now migrated for MLflow %s; an older one no longer "
        "opens it",
        database,
        _version(),
    )


def upgrade(database: Path) -> None:
    """Run `mlflow db upgrade`, MLflow's own command, which also fills an empty database.

    Raises:
        MMSearchError: it fails.
    """
    done = subprocess.run(  # noqa: S603 (our own interpreter and arguments)
        [sys.executable, "-P", "-m", "mlflow", "db", "upgrade", local_uri(database)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ},
    )
    if done.returncode:
        lines = done.stderr.splitlines()
        errors = [line for line in lines if _ERROR.match(line)] or lines or ["no reason given"]
        raise MMSearchError(f"`mlflow db upgrade` failed: {errors[-1][:200]}")


def _migrate_by_copy(database: Path, copy: Path, head: str) -> None:
    with closing(sqlite3.connect(database, timeout=_WAIT_S)) as connection:
        for _ in range(_MAX_TRIES):
            _remove(copy)
            # Changes with every commit of another connection.
            [before] = connection.execute("PRAGMA data_version").fetchone()
            with closing(sqlite3.connect(copy)) as target:
                _back_up(connection, target)
            copy.chmod(database.stat().st_mode)
            try:
                upgrade(copy)
            except MMSearchError as error:
                raise MMSearchError(
                    f"{str(database)!r} is of an older MLflow and cannot be migrated; it is as it "
                    f"was: {error}"
                ) from error
            if (reached := _revision(copy)) != head:
                raise MMSearchError(
                    f"{str(database)!r} cannot be migrated: its copy came to the schema "
                    f"{reached}, not {head}"
                )
            [after] = connection.execute("PRAGMA data_version").fetchone()
            if after == before:
                with closing(sqlite3.connect(copy)) as source:
                    _back_up(source, connection)
                return
    raise MMSearchError(
        f"{str(database)!r} is of an older MLflow and cannot be migrated while another process "
        "writes to it; end that first"
    )


def _back_up(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy a whole database, in one transaction.

    Raises:
        MMSearchError: others have held one of them for a minute.
    """
    deadline = time.monotonic() + _WAIT_S

    def give_up(_status: int, _remaining: int, _total: int) -> None:
        if time.monotonic() > deadline:
            raise MMSearchError("MLflow's database is held by another process; end that first")

    source.backup(target, progress=give_up)


def _revision(database: Path) -> str | None:
    """Read which revision of MLflow's schema a database has; None where it names none."""
    with closing(sqlite3.connect(database, timeout=_WAIT_S)) as connection:
        try:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            return None
    return str(rows[0][0]) if rows else None


def _installed_revisions() -> tuple[str, frozenset[str]]:
    """Return the newest revision that the installed MLflow knows, and all of them."""
    import mlflow  # noqa: PLC0415 (slow)
    from alembic.script import ScriptDirectory  # noqa: PLC0415 (likewise)

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store/db_migrations"))
    [head] = scripts.get_heads()
    return head, frozenset(script.revision for script in scripts.walk_revisions())


def _version() -> str:
    import mlflow  # noqa: PLC0415 (slow)

    return mlflow.__version__


def _remove(database: Path) -> None:
    """Remove a database and what SQLite keeps beside it."""
    for path in _files(database):
        path.unlink(missing_ok=True)


def _files(database: Path) -> Iterator[Path]:
    for suffix in ("", "-journal", "-wal", "-shm"):
        yield database.with_name(database.name + suffix)
