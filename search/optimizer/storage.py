"""Optuna's database: opened so that processes can share it, and its errors said in a line."""

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
"""Seconds after which a database server that does not answer counts as away."""
WAIT_S = 60.0
"""Seconds for which a locked SQLite file is waited for."""
_DAMAGED = re.compile("malformed|not a database|no such (table|column)")
"""What SQLite says of a file that is not what was written."""
REBUILD = "move the file away, and mmsearch sync writes it anew from the workspace"
"""What to do about a damaged storage."""


def open_storage(url: str, wait_s: float = WAIT_S) -> optuna.storages.RDBStorage:
    """Open an Optuna storage; a local one with settings that two processes can share.

    As SQLite comes, readers and the writer block each other and each write waits for the disk
    several times: a write-ahead log does neither, and loses nothing to a killed process.

    Args:
        url: where it is.
        wait_s: seconds for which a locked SQLite file is waited for.

    Raises:
        InputError: the URL is not that of an Optuna storage, or needs a driver that is missing.
        MMSearchError: it cannot be opened; the message shows no password.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise InputError("--storage is not a database URL, such as sqlite:///optuna.db") from None
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database in {None, "", ":memory:"}:
        raise InputError("--storage would end with this process; name a file: sqlite:///optuna.db")
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
        # What never answers is a mistake in the URL; what does not answer now may be back soon.
        is_away = isinstance(_root(error), sqlite3.Error) or isinstance(
            error, sqlalchemy.exc.DBAPIError | optuna.exceptions.StorageInternalError
        )
        kind = MMSearchError if is_away else InputError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        text = f"the Optuna storage {without_password(url)} cannot be opened: "
        text += without_secrets(reason, url)
        if _DAMAGED.search(text):
            text += f"; {REBUILD}"
        raise kind(text) from error
    if is_sqlite:
        _tune_sqlite(storage.engine)
    return storage


def _timeouts(url: sqlalchemy.URL) -> dict[str, int]:
    """Return what makes a driver give up on a server that takes calls and answers none.

    What the URL itself says wins. A driver that is not known keeps its own ways.
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
    """Refuse a database of something else, into which Optuna would put its tables.

    Raises:
        InputError: it has tables, and none of Optuna's.
    """
    names: set[str] = set()
    with contextlib.suppress(sqlite3.Error):  # what cannot be read, Optuna tells
        read_only = f"file:{quote(path)}?mode=ro"
        with contextlib.closing(sqlite3.connect(read_only, uri=True)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in rows}
    if names and "studies" not in names:
        raise InputError(
            f"the Optuna storage {path!r} is a database of something else; name another with "
            "--storage, or move it away"
        )


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Give a database its write-ahead log; SQLite itself does not wait for another who does so."""
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
    """Return whether another process holds the file."""
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _tune_sqlite(engine: sqlalchemy.Engine) -> None:
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        _switch_to_wal(connection)
        # A loss of power must not take back a claim on the test split.
        connection.execute("PRAGMA synchronous=FULL")

    def on_begin(connection: sqlalchemy.Connection) -> None:
        # A transaction that reads first and then writes would fail where another wrote between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(engine, "connect", on_connect)
    sqlalchemy.event.listen(engine, "begin", on_begin)
    engine.dispose()


@contextlib.contextmanager
def telling_errors(url: str) -> Iterator[None]:
    """Turn an error of the storage into one line that names it and shows no password.

    Args:
        url: of the storage.

    Raises:
        MMSearchError: the storage did not answer as it should.
    """
    try:
        yield
    except (
        optuna.exceptions.OptunaError,
        sqlalchemy.exc.SQLAlchemyError,
        sqlite3.Error,
    ) as error:
        if _DAMAGED.search(_cause(error)):
            raise MMSearchError(
                f"the Optuna storage {without_password(url)} is damaged; {REBUILD}"
            ) from error
        raise MMSearchError(
            f"the Optuna storage {without_password(url)} does not answer "
            f"({without_secrets(_cause(error), url)}); nothing is lost: repeat the command when it "
            "is back"
        ) from error


def _root(error: BaseException) -> BaseException:
    """Return the first of the errors that led to this one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _cause(error: BaseException) -> str:
    """Return in one line what a database said, which Optuna raises as an error of the commit."""
    root = _root(error)
    lines = str(root).strip().splitlines()
    return lines[0] if lines else type(root).__name__
