"""Deleting a study: its views in Optuna and MLflow, and its folder."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from mmsearch.errors import MMSearchError
from mmsearch.search.results.publish import mlflow_at
from mmsearch.search.study.locks import own
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.urls import storage_url, tracking_uri
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.records import best_trial, counts_by_state
from mmsearch.tracking.mlflow.local_database import local_path

if TYPE_CHECKING:
    from mmsearch.search.study.workspace import Workspace
    from mmsearch.tracking.journal.journal import Journal

DELETED = "deleted.jsonl"
"""Name of the file in the workspace's `logs` that has a line for each deleted study."""
_AGAIN = "the study's folder is unchanged; run the same command again"


def delete_study(
    workspace: Workspace, journal: Journal, storage: str | None, uri: str | None
) -> dict[str, Any]:
    """Delete a study in MLflow, in the Optuna storage and in the workspace, in this order.

    Looks at its test split stay in all ledgers, so that the split remains used up. MLflow marks
    experiments and runs as deleted; `mlflow gc` removes them and their artifacts.

    Args:
        workspace: the study's workspace.
        journal: the study's journal.
        storage: URL of the Optuna storage; None for the study's own.
        uri: MLflow's tracking URI; None for the study's own.

    Returns:
        The line that records the deletion.

    Raises:
        RefusedError: another process uses the study.
        MMSearchError: a view is away; run the same command again.
    """
    from mmsearch.search.optimizer.optuna_view import delete_view  # noqa: PLC0415 (Optuna is slow)
    from mmsearch.search.optimizer.storage import telling_errors  # noqa: PLC0415 (likewise)
    from mmsearch.tracking.mlflow.client import create, delete_runs  # noqa: PLC0415 (likewise)

    file = StudyFile.require(journal)
    tracking = tracking_uri(workspace, uri, file.tracking_uri, file.id)
    url = storage_url(workspace, storage, file.storage, file.id)
    with own(journal):
        line = _record(journal, file)
        database = local_path(tracking)
        if database is None or database.exists():
            with mlflow_at(tracking, _AGAIN), workspace.locked("mlflow"):
                delete_runs(create(tracking), journal.name, file.id)
        database = local_path(url)
        if database is None or database.exists():
            with telling_errors(url, _AGAIN), workspace.locked("optuna"):
                delete_view(url, journal.name, file.id)
        files.make_folder(workspace.root / "logs")
        files.append(workspace.root / "logs" / DELETED, json.dumps(line).encode() + b"\n")
        _delete_folder(journal)
    return line


def _record(journal: Journal, file: StudyFile) -> dict[str, Any]:
    """Return what is recorded of a study that is deleted."""
    line: dict[str, Any] = {
        "study": journal.name,
        "id": file.id,
        "split_fingerprint": file.split_fingerprint,
        "deleted_ms": time.time_ns() // 1_000_000,
        "trials": {},
        "best_dev_loss": None,
    }
    with contextlib.suppress(files.JournalError):  # a damaged study can be deleted, too
        records = journal.records()
        best = best_trial(records)
        line["trials"] = {f"{s.lower()}": n for s, n in counts_by_state(records).items()}
        line["best_dev_loss"] = best and best.dev_loss
    return line


def _delete_folder(journal: Journal) -> None:
    """Delete a study's folder; its `study.json` last, so that a killed command can be repeated."""
    try:
        for path in sorted(journal.folder.iterdir(), key=lambda path: path.name == "study.json"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
        shutil.rmtree(journal.folder)
    except OSError as error:
        raise MMSearchError(
            f"{error.filename!r} cannot be deleted: {error.strerror}; run the same command again"
        ) from error
