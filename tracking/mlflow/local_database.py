"""A local MLflow database: created, checked, and migrated to the schema of the installed MLflow.

MLflow 3.18 migrates a database of 3.17 when it opens it: silently, without a lock, and not in one
transaction, so that a process that is killed meanwhile leaves a database that does not open again.
3.17 asks for `mlflow db upgrade`, even where a newer MLflow has written the database, which that
cannot help. So a copy is migrated, and put into the database's place in one transaction of SQLite:
other processes that have the database open keep working.
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
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote

from mmsearch.errors import InputError, MMSearchError
from mmsearch.tracking.journal.files import lock, opened

WAIT_S = 60
"""Seconds to wait for other processes that use a database."""
_MAX_TRIES = 3
"""Migrations of a database that other processes write to meanwhile."""
_ERROR = re.compile(r"[\w.]+(Error|Exception)\b")
"""Matches the beginning of the last line of a traceback."""

_logger = logging.getLogger(__name__)


class UnusableDatabaseError(MMSearchError):
    """A database that its owner may move away; a new one can be filled in its place."""


def local_path(uri: str) -> Path | None:
    """Return the file of a SQLite URI; None for any other URI."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))


def local_uri(path: Path) -> str:
    """Return the URI of a SQLite file.

    Only `%`, `?` and `#` are quoted: MLflow makes the folder of the URI as it stands, so that for
    `zoë` a folder `zo%C3%AB` would appear.
    """
    return f"sqlite:///{re.sub('[%?#]', lambda match: quote(match[0]), str(path))}"


def prepare_database(path: Path) -> None:
    """Create a database, whole or not at all, or migrate it to the installed MLflow's schema.

    Raises:
        InputError: the file is a database of something else.
        UnusableDatabaseError: a newer MLflow has written it.
        MMSearchError: it cannot be opened or migrated; it is unchanged.
    """
    if path.exists():
        _check_tables(path)
        try:
            _migrate(path)
        except (sqlite3.Error, OSError) as error:
            raise MMSearchError(
                f"{str(path)!r} cannot be read, or cannot be migrated for this MLflow: {error}"
            ) from error
        return
    fresh = path.with_name(f".{path.name}.new")
    _remove(fresh)
    try:
        _make_tables(fresh)
        fresh.replace(path)
    except BaseException:
        _remove(fresh)  # a full disk needs the room
        raise


def _make_tables(path: Path) -> None:
    """Create MLflow's tables in a new database.

    MLflow's client would do it, but keeps its connection for as long as this process lives: on a
    full disk, the next attempt would write to the file that was deleted.
    """
    try:
        from mlflow.store.db import utils  # noqa: PLC0415 (slow; see client.connect)

        new_engine, initialize = utils.create_sqlalchemy_engine, utils._initialize_tables  # noqa: SLF001 (a second faster than the public way)
    except (ImportError, AttributeError):
        upgrade(path)
        return
    engine = new_engine(local_uri(path))  # type: ignore[no-untyped-call]
    try:
        initialize(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def _check_tables(path: Path) -> None:
    """Check that an existing file is empty or MLflow's: MLflow would add its tables to any other.

    Raises:
        InputError: it is a database of something else.
        MMSearchError: it cannot be opened, or is damaged.
    """
    uri = f"file:{quote(str(path))}?mode=rw"  # does not create the file
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in rows}
    except sqlite3.Error as error:
        raise MMSearchError(f"{str(path)!r} cannot be opened: {error}") from error
    if names and "experiments" not in names:
        raise InputError(
            f"{str(path)!r} is not an MLflow database; name another with --tracking-uri, or move "
            "it away"
        )


def _migrate(database: Path) -> None:
    """Migrate a database if its schema is older; one without a schema version is left to MLflow."""
    current = _revision(database)
    if current is None:
        return
    try:
        head, known = _installed_revisions()
    except Exception as error:  # noqa: BLE001 (where MLflow keeps them is not documented)
        _logger.warning(
            "the schema versions of the installed MLflow cannot be read (%s); MLflow opens %s "
            "without a check",
            type(error).__name__,
            database,
        )
        return
    if current == head:
        return
    if current not in known:
        raise UnusableDatabaseError(
            f"{str(database)!r} was written by a newer MLflow than the installed {_version()}; "
            "install that version, or move the file and artifacts/ away"
        )
    # Two workspaces may share a database, and each has locks of its own.
    lock_path = database.with_name(f".{database.name}.migrating-lock")
    copy = database.with_name(f".{database.name}.migrating")
    with opened(lock_path) as file:
        lock(file, lock_path)
        try:
            if _revision(database) == head:
                return  # another process has migrated it meanwhile
            _migrate_by_copy(database, copy, head)
        finally:
            _remove(copy)
            lock_path.unlink(missing_ok=True)
    _logger.warning(
        "%s was written by an older MLflow and is now migrated for MLflow %s; an older one can no "
        "longer open it",
        database,
        _version(),
    )


def _migrate_by_copy(database: Path, copy: Path, head: str) -> None:
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
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
                    f"{str(database)!r} was written by an older MLflow, cannot be migrated and "
                    f"is unchanged: {error.what}",
                    hint=error.hint,
                ) from error
            if (reached := _revision(copy)) != head:
                raise MMSearchError(
                    f"{str(database)!r} cannot be migrated: the schema of its copy is {reached}, "
                    f"not {head}"
                )
            [after] = connection.execute("PRAGMA data_version").fetchone()
            if after == before:
                with closing(sqlite3.connect(copy)) as source:
                    _back_up(source, connection)
                return
    raise MMSearchError(
        f"{str(database)!r} was written by an older MLflow and cannot be migrated while another "
        "process writes to it; end that process first"
    )


def _back_up(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy a whole database in one transaction.

    Raises:
        MMSearchError: another process has locked one of them for a minute.
    """
    deadline = time.monotonic() + WAIT_S

    def give_up(_status: int, _remaining: int, _total: int) -> None:
        if time.monotonic() > deadline:
            raise MMSearchError("another process has locked MLflow's database; end that first")

    source.backup(target, progress=give_up)


def upgrade(database: Path) -> None:
    """Run `mlflow db upgrade`, which also fills an empty database.

    Raises:
        MMSearchError: it failed.
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
        lines = done.stderr.splitlines() or ["no reason given"]
        errors = [line for line in lines if _ERROR.match(line)] or lines
        raise MMSearchError(f"`mlflow db upgrade` failed: {errors[-1][:200]}", hint="")


def _revision(database: Path) -> str | None:
    """Return the schema version of a database; None where it has none."""
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            return None
    return str(row[0]) if row else None


def _installed_revisions() -> tuple[str, frozenset[str]]:
    """Return the newest schema version of the installed MLflow, and all that it knows."""
    import mlflow  # noqa: PLC0415 (slow; see client.connect)

    return _revisions(Path(mlflow.__file__).parent / "store/db_migrations")


@cache
def _revisions(folder: Path) -> tuple[str, frozenset[str]]:
    """Return the newest schema version of a folder of migrations, and all that it has."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 (slow; see client.connect)

    scripts = ScriptDirectory(str(folder))
    [head] = scripts.get_heads()
    return head, frozenset(script.revision for script in scripts.walk_revisions())


def _version() -> str:
    import mlflow  # noqa: PLC0415 (slow; see client.connect)

    return mlflow.__version__


def _remove(database: Path) -> None:
    """Remove a database and the files that SQLite keeps beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
