"""Where Optuna and MLflow keep a study: database URLs, and what of them may be shown."""

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
from mmsearch.secrets import HIDDEN
from mmsearch.tracking.mlflow.local_database import local_uri

if TYPE_CHECKING:
    from mmsearch.search.study.workspace import Workspace

_SERVERS = ("databricks", "http", "https", "mariadb", "mssql", "mysql", "oracle", "postgresql")
_IN_OPTUNA = "SELECT 1 FROM study_user_attributes WHERE key = 'mmsearch.id' AND value_json = ?"
_OTHER_DATABASE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB)
"""SQLite's codes for a file without our table, and for one of another kind."""
_IN_MLFLOW = "SELECT 1 FROM tags WHERE key = 'mmsearch.study_id' AND value = ?"


def absolute(url: str | None) -> str | None:
    """Name a local database from the root, so that it is found from any folder."""
    kind, separator, rest = (url or "").partition(":///")
    path, query, options = rest.partition("?")
    is_relative = path and not path.startswith(("/", ":memory:", "file:"))
    if not separator or not kind.startswith("sqlite") or not is_relative:
        return url
    return f"{kind}:///{quote(str(Path.cwd()), safe='/ ')}/{path}{query}{options}"


def without_userinfo(url: str) -> str:
    """Take user and password out of a server's URL, which a browser asks for by itself."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def storage_url(
    workspace: Workspace, given: str | None, stored: str | None, study_id: str = ""
) -> str:
    """Settle where Optuna's study is: what is given, else what the study had.

    Raises:
        InputError: what is given is no URL, or the stored one had a password, which is never
            stored, or is a file that does not know the study.
    """
    if given and ("://" not in given or not given.isprintable()):
        raise InputError("--storage takes a database URL, such as sqlite:////home/me/optuna.db")
    if not given and stored:
        _check_stored("--storage", stored, workspace, _IN_OPTUNA, json.dumps(study_id))
    return given or stored or local_uri(workspace.root / "optuna.db")


def tracking_uri(
    workspace: Workspace, given: str | None, stored: str | None, study_id: str = ""
) -> str:
    """Settle where MLflow is: what is given, else the environment, else what the study had.

    Raises:
        InputError: what is given is no URI, or keeps nothing; the stored one had a password, which
            is never stored, or is a file that does not know the study.
    """
    given = given or os.environ.get("MLFLOW_TRACKING_URI")
    if given and not _is_tracking_uri(given):
        raise InputError(
            "--tracking-uri takes the URI of a server or a database, such as http://127.0.0.1:5000 "
            "or sqlite:////home/me/mlflow.db"
        )
    if not given and stored:
        _check_stored("--tracking-uri", stored, workspace, _IN_MLFLOW, study_id)
    return given or stored or local_uri(workspace.root / "mlflow.db")


def _is_tracking_uri(text: str) -> bool:
    """Whether MLflow could keep a study there: files alone and memory it has given up on."""
    scheme, separator, rest = text.partition("://")
    path = rest.partition("?")[0]
    is_kept = not scheme.startswith("sqlite") or path.strip("/") not in {"", ":memory:"}
    has_place = bool(scheme and separator and path) and text.isprintable() and is_kept
    return text == "databricks" or has_place


def artifacts_folder(workspace: Workspace, uri: str) -> Path | None:
    """Where artifacts lie: in the workspace beside a database; a server has its own place."""
    is_server = uri.startswith(("http://", "https://"))
    return None if is_server else workspace.root / "artifacts"


def ledger_folder() -> Path:
    """Where the user's own ledger of looks is: MMSEARCH_LEDGER, or where such data belong.

    Raises:
        InputError: the variable is no absolute path: each folder would have a ledger of its own.
    """
    given = os.environ.get("MMSEARCH_LEDGER")
    if given and not Path(given).is_absolute():
        raise InputError(f"MMSEARCH_LEDGER takes an absolute path, got {given!r}")
    return Path(given) if given else platformdirs.user_data_path("mmsearch") / "ledger"


def _check_stored(
    option: str, stored: str, workspace: Workspace, question: str, study_id: str
) -> None:
    """Check that a place which nobody has named now may be opened.

    A workspace may be a stranger's, and name any file of ours: one outside is opened for writing
    only if it knows the study by its random id. A server is asked, and is the study's to name.
    """
    if HIDDEN in stored:
        raise InputError(f"the study is at {stored}, whose password is not stored; give {option}")
    kind = re.split(r"[+:]", stored, maxsplit=1)[0]
    if kind not in _SERVERS and (why := _stranger(stored, workspace, question, study_id)):
        raise InputError(
            f"the study is said to be at {stored}, which is outside the workspace and {why}"
            f"{option}, if that is where it is"
        )


def _stranger(url: str, workspace: Workspace, question: str, study_id: str) -> str:
    """Say why a database may not be opened, and what to do; writes nothing.

    Returns:
        What follows its name in a message, up to the option; empty if it is the workspace's own, or
        knows the study.
    """
    does_not_know = "does not know it; give "
    kind, _, rest = url.partition(":///")
    path = Path(os.path.normpath(unquote(rest.partition("?")[0])))
    if kind.partition("+")[0] != "sqlite" or not path.is_absolute():
        return does_not_know
    if path.is_relative_to(workspace.root):
        return ""
    try:
        if not path.is_file():
            return "is not there; bring it back, or give "
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            knows = database.execute(question, (study_id,)).fetchone() is not None
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", None) in _OTHER_DATABASE:
            return does_not_know
        return f"cannot be asked whether it knows it: {error}; try again, or give "
    return "" if knows else does_not_know
