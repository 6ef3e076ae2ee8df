"""An MLflow store: made, opened, and asked for runs."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

from mmsearch.errors import InputError, MMSearchError
from mmsearch.secrets import without_secrets
from mmsearch.tracking.mlflow.migration import migrate, upgrade
from mmsearch.tracking.mlflow.relocate import (
    OWN_DATABASE,
    UnknownTablesError,
    bring_home,
    local_database,
    local_uri,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

_logger = logging.getLogger(__name__)

PREFIX = "mmsearch/"
"""Of the experiments' names."""

_WAIT_S = 60
"""Seconds to wait for another process."""

_PAGE = 1000
"""Runs that MLflow is asked for in one call."""

_BATCH = 1000
"""Metrics that MLflow takes in one call."""


def create(uri: str) -> MlflowClient:
    """Open an MLflow store; a local one is made first where it is missing, not by two at once."""
    _create_database(uri)
    return connect(uri)


def open_experiment(client: MlflowClient, name: str, artifacts: Path | None) -> Experiment:
    """Find a study's experiment, or make it; not for two processes at once in a local store.

    Args:
        client: of `connect`.
        name: `mmsearch/` and the study's.
        artifacts: where those of a local store lie; None to leave it to the server. Where the
            store is the workspace's own they lie nowhere else, whatever it says.

    Raises:
        MMSearchError: it has been deleted, or is not MLflow's work.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        tags = {
            "mmsearch.study": name.removeprefix(PREFIX),
            # Else the UI opens runs on its pages for language-model applications.
            "mlflow.experimentKind": "custom_model_development",
        }
        location = artifacts.as_uri() if artifacts else None
        made = client.create_experiment(name, artifact_location=location, tags=tags)
        return client.get_experiment(made)
    if found.lifecycle_stage != "active":
        raise MMSearchError(
            f"MLflow's experiment {name!r} has been deleted; with MLFLOW_TRACKING_URI set to its "
            "store, restore it with: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    database = local_database(client.tracking_uri)
    if database is None or artifacts is None or database != artifacts.with_name(OWN_DATABASE):
        return found
    try:
        bring_home(database, found.experiment_id, artifacts)
    except UnknownTablesError as error:
        if not _is_home(client, found, artifacts.as_uri()):
            raise
        # Nothing was to be changed.
        _logger.warning("%s", error)
    return client.get_experiment(found.experiment_id)


def _is_home(client: MlflowClient, experiment: Experiment, home: str) -> bool:
    """Whether an experiment, its runs and its models keep their artifacts below a folder."""
    ids = [experiment.experiment_id]
    places = [experiment.artifact_location]
    places += [run.info.artifact_uri for run in search_runs(client, ids, "", has_deleted=True)]
    token = None
    while True:
        models = client.search_logged_models(ids, page_token=token)
        places += [model.artifact_location for model in models]
        token = models.token
        if not token:
            break
    return all(place == home or place.startswith(f"{home}/") for place in places)


def _create_database(uri: str) -> None:
    """Create a local database whole or not at all, or bring an older one to this MLflow's schema.

    A process that is killed within MLflow's migrations leaves one that never opens again.
    """
    path = local_database(uri)
    if path is None:
        return
    if path.exists():
        _check_database(path)
        _prepare()
        migrate(path)
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        _make_tables(local_uri(fresh))
        fresh.replace(path)
    except BaseException:
        # A full disk needs the room.
        fresh.unlink(missing_ok=True)
        raise


def _make_tables(uri: str) -> None:
    """Make MLflow's tables in a new database.

    A client would keep the connection for as long as this process lives: where the disk was full,
    the next try would fill the file that was deleted.
    """
    _prepare()
    try:
        from mlflow.store.db import utils  # noqa: PLC0415 (slow; see connect)

        new_engine, initialize = utils.create_sqlalchemy_engine, utils._initialize_tables  # noqa: SLF001 (faster by a second than the public way)
    except (ImportError, AttributeError):
        path = local_database(uri)
        assert path is not None  # noqa: S101 (only local stores are made)
        upgrade(path)
        return
    engine = new_engine(uri)  # type: ignore[no-untyped-call]
    try:
        initialize(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def _check_database(path: Path) -> None:
    """Refuse what MLflow would put its tables into, or try to open again and again for minutes.

    Raises:
        InputError: it is a database of something else.
        MMSearchError: it cannot be opened, or is damaged.
    """
    uri = f"file:{quote(str(path))}?mode=rw"  # not to be made
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in rows}
    except sqlite3.Error as error:
        raise MMSearchError(f"{str(path)!r} cannot be opened: {error}") from error
    if names and "experiments" not in names:
        raise InputError(
            f"{str(path)!r} is a database of something else than MLflow's; name another with "
            "--tracking-uri, or move it away"
        )


def connect(uri: str) -> MlflowClient:
    """Open an MLflow store; a local one is created where it is missing.

    MLflow is imported here, since it takes over a second; its telemetry is off, and a dead server
    holds a call for seconds and not for minutes, unless the environment says otherwise.
    """
    _prepare()
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _prepare() -> None:
    """Settle what MLflow reads as it is imported and called."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # Each run that ends would print its address, with the password of a URI that has one.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow  # noqa: F401, PLC0415 (it sets its loggers up)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A traceback for each try on a full disk; we tell it once, in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Warns of each try on a dead server; likewise.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def search_runs(
    client: MlflowClient, experiment_ids: list[str], condition: str, *, has_deleted: bool = False
) -> list[Run]:
    """Find all runs that meet a condition, oldest first; deleted ones only if asked for."""
    from mlflow.entities import ViewType  # noqa: PLC0415 (slow; see connect)

    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            experiment_ids,
            condition,
            run_view_type=ViewType.ALL if has_deleted else ViewType.ACTIVE_ONLY,
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Log any number of points."""
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def first_line(error: Exception, uri: str = "") -> str:
    """Return an error of MLflow's in one line: its class and message, without log and passwords.

    Args:
        error: what was raised.
        uri: of the store, whose passwords are hidden in whatever form the message has them.
    """
    shown = without_secrets(str(error).strip(), uri)
    return f"{type(error).__name__}: {(shown.splitlines() or [''])[0][:300]}"
