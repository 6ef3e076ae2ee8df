"""Opens MLflow stores, and wraps the calls of MLflow's client that several modules make."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from mmsearch.errors import MMSearchError
from mmsearch.secrets import without_secrets
from mmsearch.tracking.mlflow import relocate
from mmsearch.tracking.mlflow.local_database import local_path, prepare_database

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

_logger = logging.getLogger(__name__)

PREFIX = "mmsearch/"
"""Prefix of the names of our experiments."""
OWN_DATABASE = "mlflow.db"
"""Name of a workspace's own database, which lies beside its `artifacts` folder."""
PAGE = 1000
"""Runs that MLflow returns in one call."""
_BATCH = 1000
"""Metrics that MLflow accepts in one call."""


def create(uri: str) -> MlflowClient:
    """Open an MLflow store; create or migrate a local one, which two processes must not do at once.

    Raises:
        InputError: the database is not MLflow's.
        MMSearchError: the database cannot be opened or migrated.
    """
    path = local_path(uri)
    if path is not None:
        _configure()
        prepare_database(path)
    return connect(uri)


def connect(uri: str) -> MlflowClient:
    """Open an MLflow store; raises MLflow's errors where it does not answer.

    MLflow takes over a second to import, which is why it is imported inside of functions only.
    """
    _configure()
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _configure() -> None:
    """Set what MLflow reads as it is imported: no telemetry, short timeouts, few messages."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # Each run that ends would print its address, with the password of a URI that has one.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow  # noqa: F401, PLC0415 (it sets its loggers up)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A traceback for each attempt on a full disk, and a warning for each on a dead server.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def open_experiment(client: MlflowClient, name: str, artifacts: Path | None) -> Experiment:
    """Find the experiment of a study, or create it, which two processes must not do at once.

    Args:
        client: the store.
        name: `PREFIX` and the name of the study.
        artifacts: folder for the artifacts of a local store; None to leave it to the server. In a
            workspace's own store, existing artifact locations are changed to this folder.

    Raises:
        MMSearchError: the experiment has been deleted, or its artifacts cannot be relocated.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        tags = {
            "mmsearch.study": name.removeprefix(PREFIX),
            # Else the UI opens runs on its pages for language-model applications.
            "mlflow.experimentKind": "custom_model_development",
        }
        location = artifacts.as_uri() if artifacts else None
        made = client.create_experiment(name, artifact_location=location, tags=tags)
        return client.get_experiment(made)
    if experiment.lifecycle_stage != "active":
        raise MMSearchError(
            f"the MLflow experiment {name!r} has been deleted; set MLFLOW_TRACKING_URI to its "
            "store and restore it with: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    database = local_path(client.tracking_uri)
    if artifacts is None or database != artifacts.with_name(OWN_DATABASE):
        return experiment
    try:
        relocate.relocate(database, experiment.experiment_id, artifacts)
    except relocate.UnknownTablesError as error:
        if not _is_home(client, experiment, artifacts.as_uri()):
            raise
        _logger.warning("%s", error)  # nothing was to be changed
    return client.get_experiment(experiment.experiment_id)


def _is_home(client: MlflowClient, experiment: Experiment, home: str) -> bool:
    """Return whether an experiment and its runs keep their artifacts in a folder."""
    runs = search_runs(client, [experiment.experiment_id], "", has_deleted=True)
    locations = [experiment.artifact_location, *(run.info.artifact_uri for run in runs)]
    return all(location == home or location.startswith(f"{home}/") for location in locations)


def search_runs(
    client: MlflowClient, experiment_ids: list[str], condition: str, *, has_deleted: bool = False
) -> list[Run]:
    """Return all runs that meet a condition, oldest first; deleted ones only if asked for."""
    from mlflow.entities import ViewType  # noqa: PLC0415 (slow; see connect)

    runs: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs(
            experiment_ids,
            condition,
            run_view_type=ViewType.ALL if has_deleted else ViewType.ACTIVE_ONLY,
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token or None,
        )
        runs += page
        token = page.token or None
    return runs


def log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Log any number of points."""
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    """Log parameters of a run."""
    from mlflow.entities import Param  # noqa: PLC0415 (slow; see connect)

    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run."""
    from mlflow.entities import RunTag  # noqa: PLC0415 (slow; see connect)

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def first_line(error: Exception, uri: str = "") -> str:
    """Format an error of MLflow's on one line, with the passwords of the store's URI masked."""
    message = without_secrets(str(error).strip(), uri)
    return f"{type(error).__name__}: {(message.splitlines() or [''])[0][:300]}"
