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
from mmsearch.search.patience import PATIENCE_S, AwayError, Patience, is_busy
from mmsearch.search.places import without_password, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

optuna.logging.set_verbosity(optuna.logging.WARNING)

_SQLITE_TRY_MS = 1000
"""Milliseconds for which SQLite waits for another process, deaf to Ctrl-C, where we try again."""
_DAMAGED = re.compile("malformed|not a database|no such (table|column)")
"""What SQLite says of a file that is not what was written."""


def open_storage(url: str, patience: Patience | None = None) -> optuna.storages.RDBStorage:
    """Open an Optuna storage; a local one with settings that two processes can share.

    As SQLite comes, readers and the writer block each other and each write waits for the disk
    several times: a write-ahead log does neither, and loses nothing to a killed process.

    Args:
        url: where it is.
        patience: of who calls it, each time that it is away; without, a local one is waited for.

    Raises:
        MMSearchError: it cannot be opened; the message shows no password.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise InputError("--storage is not a database URL, such as sqlite:///optuna.db") from None
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database in {None, "", ":memory:"}:
        raise InputError("--storage would end with this process; name a file: sqlite:///optuna.db")
    if is_sqlite:
        _refuse_foreign(str(parsed.database))
    arguments = {"connect_args": {"timeout": PATIENCE_S}} if is_sqlite else {"pool_pre_ping": True}
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except (
        *(sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError),
        *(ImportError, RuntimeError, ValueError),
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MMSearchError(
            f"the Optuna storage {without_password(url)} cannot be opened: "
            f"{without_secrets(reason, url)}"
        ) from error
    if is_sqlite:
        _tune_sqlite(storage.engine, is_patient=patience is not None)
    if patience is not None:
        patience.watch(storage.engine)
    return storage


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
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _tune_sqlite(engine: sqlalchemy.Engine, *, is_patient: bool) -> None:
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        _switch_to_wal(connection)
        # A loss of power must not take back what the journal holds already.
        connection.execute("PRAGMA synchronous=FULL")
        if is_patient:
            connection.execute(f"PRAGMA busy_timeout={_SQLITE_TRY_MS}")

    def on_begin(connection: sqlalchemy.Connection) -> None:
        # A transaction that reads first and then writes would fail where another wrote between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(engine, "connect", on_connect)
    sqlalchemy.event.listen(engine, "begin", on_begin)
    engine.dispose()


@contextlib.contextmanager
def telling_errors(url: str, go_on: str = "the same line") -> Iterator[None]:
    """Turn an error of the storage into one line that names it and shows no password.

    Args:
        url: of the storage.
        go_on: what to type once it is back.

    Raises:
        MMSearchError: the storage did not answer as it should.
    """
    try:
        yield
    except (
        *(optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError),
        *(sqlite3.Error, AwayError),
    ) as error:
        if _DAMAGED.search(_cause(error)):
            raise MMSearchError(
                f"the Optuna storage {without_password(url)} is damaged; put it back from a copy, "
                "or begin a new study in another --workspace"
            ) from error
        raise MMSearchError(
            f"the Optuna storage {without_password(url)} stopped answering "
            f"({without_secrets(_cause(error), url)}); nothing is lost, and once it answers again "
            f"{go_on} goes on"
        ) from error


def _cause(error: BaseException) -> str:
    """Say in a line what a database said, which Optuna tells as an error of the commit."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
