"""URLs of the Optuna storage and of MLflow, and the folders of artifacts and the ledger."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import platformdirs

from mmsearch.errors import InputError
from mmsearch.secrets import HIDDEN, without_password
from mmsearch.tracking.mlflow.local_database import local_uri

if TYPE_CHECKING:
    import sqlalchemy

    from mmsearch.search.study.workspace import Workspace

_SERVERS = ("databricks", "http", "https", "mariadb", "mssql", "mysql", "oracle", "postgresql")
_TRACKING = ("databricks", "http", "https", "mssql", "mysql", "postgresql", "sqlite")
"""Schemes of the servers and databases that MLflow stores runs in."""
_IN_OPTUNA = "SELECT 1 FROM study_user_attributes WHERE key = 'mmsearch.id' AND value_json = ?"
_PORTS = {"mssql": "1433", "mysql": "3306", "oracle": "1521", "postgresql": "5432"}
"""Default ports of database servers."""
_THIS_MACHINE = ("", "127.0.0.1", "::1", "localhost")
"""Hosts that name this machine; a URL without a host does, too."""
_OTHER_DATABASE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB)
"""SQLite's error codes for a missing table and for a file that is not a database."""
_IN_MLFLOW = "SELECT 1 FROM tags WHERE key = 'mmsearch.study_id' AND value = ?"


def absolute(url: str | None) -> str | None:
    """Make the path in a SQLite URL absolute, so that it works from any folder."""
    kind, separator, rest = (url or "").partition(":///")
    path, query, options = rest.partition("?")
    is_relative = path and not path.startswith(("/", ":memory:", "file:"))
    if not separator or not kind.startswith("sqlite") or not is_relative:
        return url
    return f"{kind}:///{quote(str(Path.cwd()), safe='/ ')}/{path}{query}{options}"


def without_userinfo(url: str) -> str:
    """Remove user and password from a server's URL; a browser asks for them."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def storage_url(
    workspace: Workspace, given: str | None, stored: str | None, study_id: str = ""
) -> str:
    """Return the URL of the Optuna storage: the given one, else the stored one, else the default.

    Raises:
        InputError: the given one is not a URL; or the stored one had a password, which is never
            stored, or is a database outside the workspace that lacks the study.
    """
    if given and ("://" not in given or not given.isprintable()):
        raise InputError("--storage takes a database URL, such as sqlite:////home/me/optuna.db")
    if not given and stored:
        _check_stored("--storage", stored, workspace, _IN_OPTUNA, json.dumps(study_id))
    return given or stored or local_uri(workspace.root / "optuna.db")


def tracking_uri(
    workspace: Workspace, given: str | None, stored: str | None, study_id: str = ""
) -> str:
    """Return the MLflow URI: the given one, else the environment's, the stored one or the default.

    Raises:
        InputError: as `storage_url`.
    """
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    source = "MLFLOW_TRACKING_URI" if given in {None, "", variable} else "--tracking-uri"
    given = given or variable
    if given and not _is_tracking_uri(given):
        raise InputError(
            f"{source} takes the URI of a server or a database, such as http://127.0.0.1:5000 or "
            f"sqlite:////home/me/mlflow.db, and not {without_password(given)!r}"
        )
    if not given and stored:
        _check_stored("--tracking-uri", stored, workspace, _IN_MLFLOW, study_id)
    return given or stored or local_uri(workspace.root / "mlflow.db")


def _is_tracking_uri(text: str) -> bool:
    """Return whether MLflow can store a study there; it no longer supports plain files."""
    scheme, separator, rest = text.partition("://")
    if scheme.partition("+")[0] not in _TRACKING:
        return text == "databricks"
    path = rest.partition("?")[0]
    is_kept = not scheme.startswith("sqlite") or path.strip("/") not in {"", ":memory:"}
    return bool(separator and path) and text.isprintable() and is_kept


def check_apart(storage: str, tracking: str) -> None:
    """Check that Optuna and MLflow do not share a database, in which their tables would collide.

    Raises:
        InputError: they do.
    """
    import sqlalchemy  # noqa: PLC0415 (slow)

    try:
        one, other = (_database(sqlalchemy.make_url(url)) for url in (storage, tracking))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return  # not a database, or refused where it is opened
    if one == other:
        raise InputError(
            f"Optuna and MLflow cannot share the database {without_password(storage)}; use two "
            "databases, and name the other one with --storage or --tracking-uri"
        )


def _database(url: sqlalchemy.URL) -> tuple[str, ...]:
    """Return what tells a database from others, however its URL is spelt and whoever logs in."""
    kind = url.get_backend_name().replace("mariadb", "mysql")
    if kind == "sqlite":
        return kind, str(Path((url.database or "").removeprefix("file:")).resolve())
    query = {key: ",".join(values) for key, values in url.normalized_query.items()}
    # As the drivers have it, the query comes before what stands in front of it.
    host, port = query.get("host", url.host or ""), query.get("port", str(url.port or ""))
    if host.count(":") == 1:  # host:port, and no IPv6 address
        host, _, port = host.partition(":")
    host = "localhost" if host in _THIS_MACHINE else host.lower()
    # A database may be named by nothing but these, and has schemas apart.
    others = (query.get(key, "") for key in ("odbc_connect", "options", "service", "unix_socket"))
    name = query.get("dbname", url.database or "")
    return kind, host, port or _PORTS.get(kind, ""), name, *others


def artifacts_folder(workspace: Workspace, uri: str) -> Path | None:
    """Return the workspace's artifact folder; None for an MLflow server, which has its own."""
    is_server = uri.startswith(("http://", "https://"))
    return None if is_server else workspace.root / "artifacts"


def ledger_folder() -> Path:
    """Return the folder of the user's ledger: MMSEARCH_LEDGER, or the platform's data folder.

    Raises:
        InputError: the variable is not an absolute path; or it is not set, and no home is known.
    """
    given = os.environ.get("MMSEARCH_LEDGER")
    if given and not Path(given).is_absolute():
        raise InputError(f"MMSEARCH_LEDGER takes an absolute path, got {given!r}")
    try:
        return Path(given) if given else platformdirs.user_data_path("mmsearch") / "ledger"
    except RuntimeError as error:
        raise InputError(
            "the ledger of test evaluations has no folder, since no home folder is known; set HOME "
            "or MMSEARCH_LEDGER to an absolute path"
        ) from error


def _check_stored(
    option: str, stored: str, workspace: Workspace, question: str, study_id: str
) -> None:
    """Check that a URL from a study's file may be opened.

    The workspace may come from somebody else and name any file of the user. A database outside the
    workspace is opened for writing only if it has the study under its random id.
    """
    if HIDDEN in stored:
        raise InputError(f"the study uses {stored}, whose password is not stored; pass {option}")
    kind = re.split(r"[+:]", stored, maxsplit=1)[0]
    if kind not in _SERVERS and (why := _stranger(stored, workspace, question, study_id)):
        raise InputError(
            f"the study's file names {stored}, which is outside the workspace and {why}{option} "
            "if it is the right one"
        )


def _stranger(url: str, workspace: Workspace, question: str, study_id: str) -> str:
    """Return why a database may not be opened, up to the option in the message; empty if it may."""
    lacks_study = "does not have the study; pass "
    kind, _, rest = url.partition(":///")
    path = Path(os.path.normpath(unquote(rest.partition("?")[0])))
    if kind.partition("+")[0] != "sqlite" or not path.is_absolute():
        return lacks_study
    if path.is_relative_to(workspace.root):
        return ""
    try:
        if not path.is_file():
            return "does not exist; restore it, or pass "
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            has_study = database.execute(question, (study_id,)).fetchone() is not None
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", None) in _OTHER_DATABASE:
            return lacks_study
        return f"cannot be read: {error}; try again, or pass "
    return "" if has_study else lacks_study
