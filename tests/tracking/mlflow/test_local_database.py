"""A database of another MLflow is migrated whole or refused in words, whichever is installed."""

from __future__ import annotations

import logging
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine

from mmsearch.errors import MMSearchError
from mmsearch.tracking.mlflow import client as mlflow_client
from mmsearch.tracking.mlflow import local_database

if TYPE_CHECKING:
    from tests.support.tracked_study import NewStore, Study

SCRIPTS = Path(mlflow.__file__).parent / "store/db_migrations"
UNKNOWN = "0123456789ab"

CUT = """
import os, signal, sqlite3, sys
from pathlib import Path
from mmsearch.tracking.mlflow import client, local_database

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(sqlite3.Connection):
    def backup(self, target, **options):
        if target.execute("PRAGMA database_list").fetchone()[2] == sys.argv[1]:
            super().backup(target, pages=20, progress=die)
        super().backup(target, **options)

if sys.argv[2] == "before":
    local_database.upgrade = die
else:
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Dying)
client.create("sqlite:///" + sys.argv[1])
"""
"""Migrates a database and dies with the copy made, or with some pages of it written back."""


def revisions() -> list[str]:
    """List the revisions that the installed MLflow knows, the newest first."""
    scripts = ScriptDirectory(str(SCRIPTS))
    return [script.revision for script in scripts.walk_revisions()]


def revision_of(path: Path) -> str:
    """Read the revision of a database."""
    with closing(sqlite3.connect(path)) as connection:
        [[revision]] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(revision)


RENAME = "UPDATE experiments SET name = ? WHERE experiment_id = 7"


def change(path: Path, statement: str, *values: object) -> None:
    """Change a database behind MLflow's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the database of an older MLflow by MLflow's own migrations, with an experiment in it."""
    from mlflow.store.tracking.dbmodels.initial_models import Base  # noqa: PLC0415 (slow)

    path = tmp_path_factory.mktemp("old") / "mlflow.db"
    uri = f"sqlite:///{path}"
    engine = create_engine(uri)
    Base.metadata.create_all(engine)
    engine.dispose()
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("sqlalchemy.url", uri)
    command.upgrade(config, revisions()[3])
    change(
        path,
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
        "VALUES (7, 'mmsearch/old', ?, 'active')",
        f"{path.parent.as_uri()}/artifacts",
    )
    return path


@pytest.fixture
def old(template: Path, tmp_path: Path) -> Path:
    """Copy it for one test."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(template.read_bytes())
    return path


def test_older_database_is_migrated_and_said_so(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = revision_of(old)

    client = mlflow_client.create(f"sqlite:///{old}")

    assert revision_of(old) == revisions()[0] != before
    experiment = client.get_experiment_by_name("mmsearch/old")
    assert experiment is not None
    assert experiment.experiment_id == "7"
    [record] = [each for each in caplog.records if each.name.startswith("mmsearch")]
    assert record.levelno == logging.WARNING
    assert str(old) in record.getMessage()
    assert mlflow.__version__ in record.getMessage()
    assert [path.name for path in old.parent.iterdir()] == ["mlflow.db"]


def test_database_of_this_version_is_not_touched(
    new_store: NewStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = new_store.copy(tmp_path)
    path = tmp_path / "mlflow.db"
    before = path.read_bytes()

    local_database.prepare_database(path)

    assert path.read_bytes() == before
    mlflow_client.create(uri)
    assert not [each for each in caplog.records if each.name.startswith("mmsearch")]


def test_write_ahead_log_is_migrated_too(old: Path) -> None:
    with closing(sqlite3.connect(old)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("PRAGMA wal_autocheckpoint = 0")
        with other:
            other.execute(RENAME, ["mmsearch/logged"])

        client = mlflow_client.create(f"sqlite:///{old}")

        assert client.get_experiment_by_name("mmsearch/logged") is not None
        # The other process goes on in the same file, and what it writes arrives.
        with other:
            other.execute(RENAME, ["mmsearch/later"])
    assert client.get_experiment_by_name("mmsearch/later") is not None


def test_what_others_write_meanwhile_is_kept(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade, names = local_database.upgrade, iter(["mmsearch/meanwhile"])

    def slow(copy: Path) -> None:
        for name in names:
            change(old, RENAME, name)
        upgrade(copy)

    monkeypatch.setattr(local_database, "upgrade", slow)
    client = mlflow_client.create(f"sqlite:///{old}")
    assert client.get_experiment_by_name("mmsearch/meanwhile") is not None


@pytest.mark.parametrize("moment", ["before", "within"])
def test_killed_migration_leaves_the_database_as_it_was(old: Path, moment: str) -> None:
    before = revision_of(old)
    done = subprocess.run([sys.executable, "-c", CUT, old, moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert revision_of(old) == before

    client = mlflow_client.create(f"sqlite:///{old}")

    assert client.get_experiment_by_name("mmsearch/old") is not None
    assert revision_of(old) == revisions()[0]
    assert [path.name for path in old.parent.iterdir()] == ["mlflow.db"]


def test_failed_migration_leaves_the_database_as_it_was(old: Path) -> None:
    # The table that a later revision makes is there already.
    before = tables(old)
    copied = old.with_name("new.db")
    copied.write_bytes(old.read_bytes())
    mlflow_client.create(f"sqlite:///{copied}")
    copied_tables = sorted(tables(copied) - before)
    if not copied_tables:
        pytest.skip("the last revisions of this MLflow make no table")
    for name in copied_tables:
        change(old, f"CREATE TABLE {name} (x)")
    content = old.read_bytes()

    with pytest.raises(MMSearchError, match="already exists"):
        mlflow_client.create(f"sqlite:///{old}")

    assert old.read_bytes() == content


def tables(path: Path) -> set[str]:
    """Name a database's tables."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows}


def test_database_of_a_newer_mlflow_is_refused(new_store: NewStore, tmp_path: Path) -> None:
    uri = new_store.copy(tmp_path)
    path = tmp_path / "mlflow.db"
    change(path, "UPDATE alembic_version SET version_num = ?", UNKNOWN)
    before = path.read_bytes()

    with pytest.raises(MMSearchError, match="newer MLflow") as caught:
        mlflow_client.create(uri)

    told = str(caught.value)
    assert mlflow.__version__ in told
    assert "mmsearch sync" in told
    assert path.read_bytes() == before


def test_damaged_database_is_named(new_store: NewStore, tmp_path: Path) -> None:
    uri = new_store.copy(tmp_path)
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        [[root]] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'alembic_version'"
        ).fetchall()
        [[size]] = connection.execute("PRAGMA page_size").fetchall()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)

    with pytest.raises(MMSearchError, match=re.escape(str(path))):
        mlflow_client.create(uri)


def test_unknown_layout_of_mlflow_is_left_to_mlflow(
    new_store: NewStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    uri = new_store.copy(tmp_path)
    monkeypatch.setattr(mlflow, "__file__", str(tmp_path / "nowhere/__init__.py"))

    client = mlflow_client.create(uri)

    assert client.search_experiments()
    assert [each.levelno for each in caplog.records if each.name.startswith("mmsearch")] == [
        logging.WARNING
    ]


def test_store_is_made_without_private_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils  # noqa: PLC0415 (slow)

    initialize = utils._initialize_tables
    monkeypatch.delattr(utils, "_initialize_tables")
    path = tmp_path / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        # MLflow's own store has need of it as it opens a database that lacks tables.
        patch.setattr(mlflow_client, "connect", MlflowClient)
        mlflow_client.create(f"sqlite:///{path}")
    monkeypatch.setattr(utils, "_initialize_tables", initialize, raising=False)

    assert revision_of(path) == revisions()[0]
    assert mlflow_client.create(f"sqlite:///{path}").search_experiments()


@pytest.mark.parametrize("is_moved", [False, True])
def test_unknown_tables_stop_nothing_but_a_move(
    new_store: NewStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    is_moved: bool,
) -> None:
    client = mlflow_client.create(new_store.copy(tmp_path))
    artifacts = tmp_path / "artifacts"
    first = mlflow_client.open_experiment(client, "mmsearch/x", artifacts)
    client.create_run(first.experiment_id)
    change(tmp_path / "mlflow.db", "ALTER TABLE logged_models RENAME TO renamed")
    if is_moved:
        change(
            tmp_path / "mlflow.db",
            "UPDATE runs SET artifact_uri = replace(artifact_uri, '/artifacts', '/elsewhere')",
        )
        with pytest.raises(MMSearchError, match="artifacts"):
            mlflow_client.open_experiment(client, "mmsearch/x", artifacts)
        return

    again = mlflow_client.open_experiment(client, "mmsearch/x", artifacts)

    assert again.experiment_id == first.experiment_id
    assert any("logged_models" in each.getMessage() for each in caplog.records)


def test_view_that_mlflow_refuses_stops_nothing(
    new_store: NewStore,
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_tag = MlflowClient.set_experiment_tag

    def refuse(self: MlflowClient, experiment_id: str, key: str, value: Any) -> None:
        if key.startswith("mlflow.sharedViewState."):
            raise MlflowException.invalid_parameter_value("no such tag")
        set_tag(self, experiment_id, key, value)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    tracker = study.tracker(new_store.copy(tmp_path), tmp_path / "artifacts")
    study.complete(0)

    tracker.open()
    tracker.show_trial(study.journal.read(0), study.journal)
    tracker.show_study(study.summary())

    assert tracker.lacking(study.journal.records()) == []
    assert any("view" in each.getMessage() for each in caplog.records)
