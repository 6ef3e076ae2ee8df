"""Makes a workspace's own MLflow database keep its artifacts in that workspace.

MLflow stores the absolute location of the artifacts of each experiment, run and model. After a
workspace has been moved or copied these lead to the old place, and in one from somebody else they
may lead anywhere. So they are set, before anything is written to them, to a folder beside the
database.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from mmsearch.tracking.mlflow.local_database import WAIT_S, UnusableDatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ID = re.compile(r"[\w-]+")
"""Matches MLflow's id of a run or a model, which is also the name of its folder."""

_EXPERIMENT = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
_RUNS = "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?"
_MODELS = "SELECT model_id, artifact_location FROM logged_models WHERE experiment_id = ?"
_VERSIONS = """SELECT v.name, v.version, m.model_id, v.source, v.storage_location
    FROM model_versions v JOIN logged_models m
    ON v.source = m.artifact_location OR v.storage_location = m.artifact_location
    WHERE m.experiment_id = ?"""

_MOVE_EXPERIMENT = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?"
_MOVE_RUN = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
_MOVE_MODEL = "UPDATE logged_models SET artifact_location = ? WHERE model_id = ?"
_MOVE_VERSION = """UPDATE model_versions SET source = ?, storage_location = ?
    WHERE name = ? AND version = ?"""


class UnknownTablesError(UnusableDatabaseError):
    """MLflow's tables are not the ones that this module knows."""


def relocate(database: Path, experiment_id: str, artifacts: Path) -> None:
    """Set the artifact locations of an experiment, its runs and its models to a folder.

    Args:
        database: a database with the schema of the installed MLflow.
        experiment_id: the experiment.
        artifacts: the folder, an absolute path.

    Raises:
        UnknownTablesError: a table or column is missing; nothing has been changed.
        UnusableDatabaseError: the id of a run or model is not a plain name.
    """
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        try:
            updates = list(_updates(connection, int(experiment_id), artifacts.as_uri()))
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            raise UnknownTablesError(
                f"the tables of {str(database)!r} are not those of MLflow 3.17 and 3.18 ({error}), "
                "so its artifacts cannot be relocated; install one of these versions, or move the "
                "file and artifacts/ away"
            ) from error
        with connection:
            for statement, values in updates:
                connection.execute(statement, values)


def _updates(
    connection: sqlite3.Connection, experiment_id: int, home: str
) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the statements that are needed, with their values; none if nothing has moved."""
    key = (experiment_id,)
    for (location,) in connection.execute(_EXPERIMENT, key):
        if location != home:
            yield _MOVE_EXPERIMENT, (home, experiment_id)
    for run, location in connection.execute(_RUNS, key):
        if location != (target := f"{home}/{_checked(run)}/artifacts"):
            yield _MOVE_RUN, (target, run)
    # Versions before models: a version is found by the old location of its model.
    for name, version, model, *locations in connection.execute(_VERSIONS, key):
        if locations != [target := f"{home}/models/{_checked(model)}/artifacts"] * 2:
            yield _MOVE_VERSION, (target, target, name, version)
    for model, location in connection.execute(_MODELS, key):
        if location != (target := f"{home}/models/{_checked(model)}/artifacts"):
            yield _MOVE_MODEL, (target, model)


def _checked(name: object) -> str:
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise UnusableDatabaseError(
            f"the workspace's mlflow.db has a run or model with the id {name!r}, which MLflow does "
            "not make: the file is damaged or forged; move mlflow.db and artifacts/ away"
        )
    return name
