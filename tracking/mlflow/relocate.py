"""Keeps the artifacts of a workspace's own MLflow database in that workspace.

MLflow writes into its database, by absolute path, where each experiment, run and model keeps its
artifacts. After a workspace was moved or copied these paths lead to where it was; in one that
somebody else has made they may lead anywhere. So they are made to follow from where the database
lies, before anything is written by them.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from mmsearch.errors import MMSearchError

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_DATABASE = "mlflow.db"
"""A workspace's own, beside its `artifacts`."""

_NAME = re.compile(r"[\w-]+")
"""What MLflow calls a run or a model; it becomes a folder's name."""
_WAIT_S = 60
"""Seconds to wait for another process."""

_EXPERIMENT = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
_RUNS = "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?"
_MODELS = "SELECT model_id, artifact_location FROM logged_models WHERE experiment_id = ?"
_VERSIONS = """SELECT v.name, v.version, m.model_id, v.source, v.storage_location
    FROM model_versions v JOIN logged_models m
    ON v.source = m.artifact_location OR v.storage_location = m.artifact_location
    WHERE m.experiment_id = ?"""

_MOVE_VERSION = """UPDATE model_versions SET source = ?, storage_location = ?
    WHERE name = ? AND version = ?"""

_Update = tuple[str, tuple[object, ...]]


class UnknownTablesError(MMSearchError):
    """MLflow's tables are not those that we know."""


def local_database(uri: str) -> Path | None:
    """Find the file that a tracking URI names; None where it is no SQLite database."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))


def local_uri(path: Path) -> str:
    """Name a SQLite database; of the path, SQLAlchemy reads `%`, `?` and `#` as its own.

    The rest stays as it is: MLflow makes the folder of the URI as it stands, so that of `zoë` a
    `zo%C3%AB` would appear beside it.
    """
    return f"sqlite:///{re.sub('[%?#]', lambda found: quote(found[0]), str(path))}"


def bring_home(database: Path, experiment_id: str, artifacts: Path) -> None:
    """Let an experiment, its runs and its models keep their artifacts in a folder.

    Args:
        database: of this version of MLflow.
        experiment_id: in it.
        artifacts: absolute; where they are, or where they are to be from now on.

    Raises:
        UnknownTablesError: a table or column is not there; nothing has been changed.
        MMSearchError: the database has a run or model whose name is no folder's.
    """
    with closing(sqlite3.connect(database, timeout=_WAIT_S)) as connection:
        try:
            updates = list(_updates(connection, experiment_id, artifacts.as_uri()))
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            raise UnknownTablesError(
                f"{str(database)!r} has other tables than those of MLflow 3.17 and 3.18 ({error}), "
                "so that artifacts cannot be moved in it; install one of these, or move it and "
                "artifacts/ away and run: mmsearch sync"
            ) from error
        with connection:
            for statement, values in updates:
                connection.execute(statement, values)


def _updates(connection: sqlite3.Connection, experiment_id: str, home: str) -> Iterator[_Update]:
    """Give what is to be changed; nothing where the workspace has not been moved."""
    key = (int(experiment_id),)
    for (location,) in connection.execute(_EXPERIMENT, key):
        if location != home:
            yield (
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (home, *key),
            )
    for run, location in connection.execute(_RUNS, key):
        if location != (where := f"{home}/{_name(run)}/artifacts"):
            yield "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (where, run)
    # Versions first: it is by a model's old place that they are known.
    for name, version, model, *places in connection.execute(_VERSIONS, key):
        if places != [where := f"{home}/models/{_name(model)}/artifacts"] * 2:
            yield _MOVE_VERSION, (where, where, name, version)
    for model, location in connection.execute(_MODELS, key):
        if location != (where := f"{home}/models/{_name(model)}/artifacts"):
            yield (
                "UPDATE logged_models SET artifact_location = ? WHERE model_id = ?",
                (where, model),
            )


def _name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MMSearchError(
            f"the workspace's mlflow.db has a run or model called {name!r}, which MLflow makes "
            "none of: it is damaged or forged; move mlflow.db and artifacts/ away, and fill a new "
            "one in with: mmsearch sync"
        )
    return name
