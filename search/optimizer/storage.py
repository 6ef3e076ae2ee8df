"""Optuna's database: opening it, and turning its errors into one line."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import optuna
import sqlalchemy

from mmsearch.errors import InputError, MMSearchError
from mmsearch.secrets import without_password, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWER_S = 20
"""Seconds after which a database server that does not answer is treated as away."""
WAIT_S = 60.0
"""Seconds to wait for a locked SQLite file."""
_DAMAGED = re.compile("malformed|not a database|no such (table|column)")
"""SQLite's error messages for a damaged file."""


class _DamagedStorageError(MMSearchError):
    """The storage is a damaged file, which its owner may move away."""


def open_storage(url: str, wait_s: float = WAIT_S) -> optuna.storages.RDBStorage:
    """Open an Optuna storage.

    Args:
        url: the database URL.
        wait_s: seconds to wait for a locked SQLite file.

    Raises:
        InputError: the URL is not that of an Optuna storage, or its driver is not installed.
        MMSearchError: the storage cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise InputError("--storage is not a database URL, such as sqlite:///optuna.db") from None
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database in {None, "", ":memory:"}:
        raise InputError(
            "--storage must name a file, such as sqlite:///optuna.db, and not a database in memory"
        )
    if is_sqlite:
        _refuse_foreign(str(parsed.database))
    try:
        arguments: dict[str, Any] = (
            {"connect_args": {"timeout": wait_s}}
            if is_sqlite
            else {"connect_args": _timeouts(parsed), "pool_pre_ping": True}
        )
        storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except (
        *(sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError),
        *(ImportError, RuntimeError, ValueError),
    ) as error:
        # A database error may be gone soon; any other error is a mistake in the URL.
        kind: type[MMSearchError]
        is_away = isinstance(_root(error), sqlite3.Error) or isinstance(
            error, sqlalchemy.exc.DBAPIError | optuna.exceptions.StorageInternalError
        )
        kind = MMSearchError if is_away else InputError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        text = f"the Optuna storage {without_password(url)} cannot be opened: "
        text += without_secrets(reason, url)
        if _DAMAGED.search(text):
            raise _DamagedStorageError(text, hint="move the file away") from error
        raise kind(text, hint="") from error
    if is_sqlite:
        _tune_sqlite(storage.engine)
    return storage


def _timeouts(url: sqlalchemy.URL) -> dict[str, int]:
    """Return the driver's options to time out on a server that accepts calls and does not answer.

    Options in the URL take precedence; for other drivers nothing is set.
    """
    driver = url.get_driver_name()
    if driver in {"psycopg", "psycopg2"}:
        found = {"connect_timeout": _ANSWER_S, "tcp_user_timeout": 1000 * _ANSWER_S}
    elif driver == "pymysql":
        found = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), _ANSWER_S)
    else:
        found = {}
    return {name: value for name, value in found.items() if name not in url.query}


def _refuse_foreign(path: str) -> None:
    """Refuse another program's database, to which Optuna would add its tables.

    Raises:
        InputError: it has tables, but none of Optuna's.
    """
    names: set[str] = set()
    with contextlib.suppress(sqlite3.Error):  # opening the storage will report it
        read_only = f"file:{quote(path)}?mode=ro"
        with contextlib.closing(sqlite3.connect(read_only, uri=True)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in rows}
    if names and "studies" not in names:
        raise InputError(
            f"the Optuna storage {path!r} is a database of another program; choose another with "
            "--storage, or move it away"
        )


def use_write_ahead_log(storage: optuna.storages.RDBStorage) -> None:
    """Switch a SQLite file to a write-ahead log for good; leave another database as it is.

    Readers and the writer do not block each other then, and a write waits for the disk only once.
    """
    if storage.engine.dialect.name == "sqlite":
        with contextlib.closing(storage.engine.raw_connection()) as connection:
            assert isinstance(connection.driver_connection, sqlite3.Connection)  # noqa: S101 (as asked)
            _switch_to_wal(connection.driver_connection)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch a database to a write-ahead log; retry while another process does so."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _is_busy(error: sqlite3.Error) -> bool:
    """Return whether the error means that another process holds the file."""
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _tune_sqlite(engine: sqlalchemy.Engine) -> None:
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        # A power failure must not undo a claim on the test split.
        connection.execute("PRAGMA synchronous=FULL")

    def on_begin(connection: sqlalchemy.Connection) -> None:
        # A transaction that reads and then writes would fail if another wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(engine, "connect", on_connect)
    sqlalchemy.event.listen(engine, "begin", on_begin)
    engine.dispose()


@contextlib.contextmanager
def telling_errors(url: str, next_step: str) -> Iterator[None]:
    """Turn any error of the storage into one line that names it and hides passwords.

    Args:
        url: the database URL.
        next_step: what the user can do once a damaged file has been moved away.

    Raises:
        MMSearchError: instead of an error of Optuna or the database.
    """
    try:
        yield
    except _DamagedStorageError as error:
        raise MMSearchError(error.what, hint=f"{error.hint}; {next_step}") from error
    except (
        optuna.exceptions.OptunaError,
        sqlalchemy.exc.SQLAlchemyError,
        sqlite3.Error,
    ) as error:
        if _DAMAGED.search(_cause(error)):
            raise MMSearchError(
                f"the Optuna storage {without_password(url)} is damaged",
                hint=f"move the file away; {next_step}",
            ) from error
        raise MMSearchError(
            f"the Optuna storage {without_password(url)} failed "
            f"({without_secrets(_cause(error), url)})",
            hint="nothing is lost: repeat the command when it is back",
        ) from error


def _root(error: BaseException) -> BaseException:
    """Return the original cause of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _cause(error: BaseException) -> str:
    """Return the database's own message in one line; Optuna wraps it in an error of the commit."""
    root = _root(error)
    lines = str(root).strip().splitlines()
    return lines[0] if lines else type(root).__name__
