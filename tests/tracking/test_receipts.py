"""An idle command opens MLflow's database only if the database or the study has changed."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mmsearch.tracking import receipts
from mmsearch.tracking.mlflow.tracker import StudyTracker
from mmsearch.tracking.uploader import Uploader
from tests.support.tracked_study import NewStore, Study


class Counted(StudyTracker):
    """Counts how often it is opened."""

    n_opened = 0

    def open(self) -> None:
        """Open the store."""
        self.n_opened += 1
        super().open()


@pytest.fixture
def flush(new_store: NewStore, study: Study, tmp_path: Path) -> Callable[..., bool]:
    """Bring MLflow up to date as an idle command does; returns whether it was opened."""
    uri = new_store.copy(tmp_path)

    def flush(*, is_done: bool = True) -> bool:
        view = Counted(uri=uri, facts=study.facts, artifacts=tmp_path / "artifacts")
        receipt = study.journal.folder / "mlflow.json"
        uploader = Uploader(view, study.journal, print, is_idle=True, receipt=receipt)
        uploader.start()
        is_whole = uploader.close(study.summary(is_done=is_done))
        assert is_whole == (uploader.error is None)
        return view.n_opened > 0

    return flush


def test_unchanged_database_is_not_opened(flush: Callable[..., bool], study: Study) -> None:
    study.complete(0)
    assert [flush(), flush(), flush()] == [True, False, False]


@pytest.mark.parametrize("change", ["trial", "summary", "write", "torn receipt"])
def test_change_is_noticed(
    flush: Callable[..., bool], study: Study, tmp_path: Path, change: str
) -> None:
    study.complete(0)
    assert flush()
    receipt = study.journal.folder / "mlflow.json"
    if change == "trial":
        study.complete(1)
    elif change == "write":
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
            connection.execute("UPDATE runs SET name = 'x'")
    elif change == "torn receipt":
        receipt.write_bytes(receipt.read_bytes()[:-9])
    is_done = change != "summary"
    assert [flush(is_done=is_done), flush(is_done=is_done)] == [True, False]


def test_older_copy_and_missing_database_are_noticed(tmp_path: Path) -> None:
    receipt, database = tmp_path / "mlflow.json", tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    database.write_bytes(b"SQLite")
    receipts.write(receipt, uri, "a")
    assert receipts.is_valid(receipt, uri, "a")
    status = database.stat()
    shutil.copy(database, tmp_path / "older")  # of the same length and time
    (tmp_path / "older").replace(database)
    os.utime(database, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not receipts.is_valid(receipt, uri, "a")
    database.unlink()
    assert not receipts.is_valid(receipt, uri, "a")


def test_trial_that_could_not_be_shown_is_tried_again(
    flush: Callable[..., bool], study: Study
) -> None:
    study.complete(0)
    weights = study.journal.trial_folder(0) / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"")
    assert [flush(), flush()] == [True, True]
    weights.write_bytes(kept)
    assert [flush(), flush()] == [True, False]
