"""Opens MLflow stores, and wraps the calls of MLflow's client that several modules make."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mmsearch.secrets import without_secrets
from mmsearch.tracking.mlflow import relocate
from mmsearch.tracking.mlflow.local_database import local_path, prepare_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

_logger = logging.getLogger(__name__)

PREFIX = "mmsearch/"
"""Prefix of the names that our experiments get."""
_STUDY = "mmsearch.study"
"""Tag of an experiment with the name of its study."""
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


def our_experiments(client: MlflowClient) -> list[Experiment]:
    """Return the experiments of all studies in a store, deleted and renamed ones included."""
    from mlflow.entities import ViewType  # noqa: PLC0415 (slow; see connect)

    found: list[Experiment] = []
    token: str | None = ""
    while token is not None:
        page = client.search_experiments(
            view_type=ViewType.ALL, max_results=PAGE, page_token=token or None
        )
        found += [e for e in page if e.name.startswith(PREFIX) or _STUDY in e.tags]
        token = page.token or None
    return found


def open_experiment(
    client: MlflowClient,
    study: str,
    artifacts: Path | None,
    study_id: str = "",
    say: Callable[[str], None] = _logger.warning,
) -> Experiment:
    """Find the experiment of a study, or create it, which two processes must not do at once.

    People rename experiments, so the one that has the study's own run counts, whatever its name. A
    deleted one is restored.

    Args:
        client: the store.
        study: the name of the study.
        artifacts: folder for the artifacts of a local store; None to leave it to the server. In a
            workspace's own store, existing artifact locations are changed to this folder.
        study_id: the id of the study; empty to go by the name alone.
        say: called with a line if the experiment was restored.

    Raises:
        MMSearchError: the experiment's artifacts cannot be relocated.
    """
    experiment = _find_experiment(client, study, study_id)
    if experiment is None:
        tags = {
            _STUDY: study,
            # Else the UI opens runs on its pages for language-model applications.
            "mlflow.experimentKind": "custom_model_development",
        }
        location = artifacts.as_uri() if artifacts else None
        made = client.create_experiment(PREFIX + study, artifact_location=location, tags=tags)
        return client.get_experiment(made)
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
        say(f"restored the experiment {experiment.name!r}, which had been deleted")
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


def _find_experiment(client: MlflowClient, study: str, study_id: str) -> Experiment | None:
    """Return the experiment that has the study's own run, else the one of its name."""
    ours = our_experiments(client)
    of_study = {e.experiment_id: e for e in ours if e.tags.get(_STUDY, study) == study}
    condition = f"tags.mmsearch.kind = 'study' and tags.mmsearch.study_id = '{study_id}'"
    runs = search_runs(client, list(of_study), condition, has_deleted=True) if study_id else []
    stages = ("active", "deleted")
    runs.sort(
        key=lambda run: (
            stages.index(of_study[run.info.experiment_id].lifecycle_stage),
            stages.index(run.info.lifecycle_stage),
        )
    )
    if runs:
        return of_study[runs[0].info.experiment_id]
    return next((e for e in ours if e.name == PREFIX + study), None)


def delete_runs(client: MlflowClient, study: str, study_id: str) -> None:
    """Mark the runs of a study as deleted, and its experiment where nothing else is left in it.

    Final tests stay: they record that a test split is used up.
    """
    experiment = _find_experiment(client, study, study_id)
    if experiment is None or experiment.lifecycle_stage != "active":
        return
    places = [experiment.experiment_id]
    runs = search_runs(client, places, f"tags.mmsearch.study_id = '{study_id}'")
    # The study's own run last, by which the experiment is found again.
    runs.sort(key=lambda run: run.data.tags.get("mmsearch.kind") == "study")
    for run in runs:
        if run.data.tags.get("mmsearch.kind") != "final-test":
            client.delete_run(run.info.run_id)
    if not client.search_runs(places, max_results=1):
        # MLflow keeps a deleted name taken, and restores all runs with the experiment.
        client.rename_experiment(places[0], f"{experiment.name} deleted {study_id[:8]}")
        client.delete_experiment(places[0])


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


@dataclass(frozen=True, slots=True)
class DataSet:
    """Words that a run used, without any of them."""

    part: str
    """`train`, `dev` or `test`."""
    digest: str
    """Hex digits that tell it from other words; MLflow keeps 36."""
    source: Mapping[str, Any]
    """What determines the words."""
    n_words: int


def log_datasets(client: MlflowClient, run_id: str, datasets: Iterable[DataSet]) -> None:
    """Log the words that a run used."""
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 (slow; see connect)

    inputs = [
        DatasetInput(
            Dataset(
                name=each.part,
                digest=each.digest[:36],
                source_type="local",
                source=json.dumps(each.source),
                profile=json.dumps({"num_rows": each.n_words}),
            ),
            [InputTag("mlflow.data.context", each.part)],
        )
        for each in datasets
    ]
    try:
        client.log_inputs(run_id, inputs)
    except Exception:  # noqa: BLE001 (another process may just have made the data set)
        client.log_inputs(run_id, inputs)


def first_line(error: Exception, uri: str = "") -> str:
    """Format an error of MLflow's on one line, with the passwords of the store's URI masked."""
    message = without_secrets(str(error).strip(), uri)
    line = f"{type(error).__name__}: {(message.splitlines() or [''])[0][:300]}"
    status = getattr(error, "get_http_status_code", lambda: None)()
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        line += (
            "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    return line
