"""A workspace's own database from another MLflow: migrated whole, or refused."""

from __future__ import annotations

import logging
import re
import shutil
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
    return Path(shutil.copy(template, tmp_path / "mlflow.db"))


@pytest.fixture
def current(new_store: NewStore, tmp_path: Path) -> Path:
    """Return a database of the installed MLflow."""
    new_store.copy(tmp_path)
    return tmp_path / "mlflow.db"


def create(path: Path) -> MlflowClient:
    return mlflow_client.create(f"sqlite:///{path}")


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return our own messages, which must all be warnings."""
    ours = [record for record in caplog.records if record.name.startswith("mmsearch")]
    assert {record.levelno for record in ours} <= {logging.WARNING}
    return [record.getMessage() for record in ours]


def assert_migrated(path: Path, experiment: str = "mmsearch/old") -> None:
    """Check that a database is the installed MLflow's, and nothing is left beside it."""
    found = create(path).get_experiment_by_name(experiment)
    assert found is not None
    assert found.experiment_id == "7"
    assert revision_of(path) == revisions()[0]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_older_database_is_migrated_with_one_warning(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert revision_of(old) != revisions()[0]

    assert_migrated(old)

    [message] = warned(caplog)
    assert str(old) in message
    assert mlflow.__version__ in message


def test_database_of_this_version_is_not_touched(
    current: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = current.read_bytes()

    local_database.prepare_database(current)

    assert current.read_bytes() == before
    create(current)
    assert warned(caplog) == []


def test_write_ahead_log_of_an_open_database_is_migrated_too(old: Path) -> None:
    """The process that has it open goes on in the same file, and what it writes arrives."""
    with closing(sqlite3.connect(old)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("PRAGMA wal_autocheckpoint = 0")
        with other:
            other.execute(RENAME, ["mmsearch/logged"])

        client = create(old)

        assert client.get_experiment_by_name("mmsearch/logged") is not None
        with other:
            other.execute(RENAME, ["mmsearch/later"])
    assert client.get_experiment_by_name("mmsearch/later") is not None


@pytest.mark.fault
def test_what_others_write_during_a_migration_is_kept(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is out of date by the time it is migrated is made again."""
    upgrade, names = local_database.upgrade, iter(["mmsearch/meanwhile"])

    def slow(copy: Path) -> None:
        for name in names:
            change(old, RENAME, name)
        upgrade(copy)

    monkeypatch.setattr(local_database, "upgrade", slow)

    assert_migrated(old, "mmsearch/meanwhile")


@pytest.mark.fault
@pytest.mark.parametrize("moment", ["before", "within"])
def test_killed_migration_leaves_the_database_as_it_was(old: Path, moment: str) -> None:
    """With the copy made, or half written back: the next command migrates it."""
    before = revision_of(old)

    done = subprocess.run([sys.executable, "-c", CUT, old, moment], check=False)

    assert done.returncode == -signal.SIGKILL
    assert revision_of(old) == before
    assert_migrated(old)


def tables(path: Path) -> set[str]:
    """Name a database's tables."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows}


def test_failed_migration_leaves_the_database_as_it_was(old: Path, new_store: NewStore) -> None:
    """A table that a later revision makes is there already."""
    made = sorted(tables(new_store.path) - tables(old))
    if not made:
        pytest.skip("the last revisions of this MLflow make no table")
    for name in made:
        change(old, f"CREATE TABLE {name} (x)")
    content = old.read_bytes()

    with pytest.raises(MMSearchError, match="already exists"):
        create(old)

    assert old.read_bytes() == content


def test_database_of_a_newer_mlflow_is_refused_with_the_way_out(current: Path) -> None:
    """MLflow would ask for `mlflow db upgrade`, which cannot go back."""
    change(current, "UPDATE alembic_version SET version_num = ?", UNKNOWN)
    before = current.read_bytes()

    with pytest.raises(local_database.UnusableDatabaseError, match="move") as caught:
        create(current)

    assert mlflow.__version__ in str(caught.value)
    assert current.read_bytes() == before


def test_damaged_database_is_named(current: Path) -> None:
    with closing(sqlite3.connect(current)) as connection:
        [[root]] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'alembic_version'"
        ).fetchall()
        [[size]] = connection.execute("PRAGMA page_size").fetchall()
    with current.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)

    with pytest.raises(MMSearchError, match=re.escape(str(current))):
        create(current)


def test_unknown_layout_of_mlflow_is_left_to_mlflow_with_a_warning(
    current: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A later MLflow may keep its migrations elsewhere."""
    monkeypatch.setattr(mlflow, "__file__", str(current.parent / "nowhere/__init__.py"))

    assert create(current).search_experiments()

    assert len(warned(caplog)) == 1


def test_store_is_made_without_private_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later MLflow may lack the function; its command makes the store then."""
    from mlflow.store.db import utils  # noqa: PLC0415 (slow)

    initialize = utils._initialize_tables
    monkeypatch.delattr(utils, "_initialize_tables")
    path = tmp_path / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        # MLflow's own store has need of it as it opens a database that lacks tables.
        patch.setattr(mlflow_client, "connect", MlflowClient)
        create(path)
    monkeypatch.setattr(utils, "_initialize_tables", initialize, raising=False)

    assert revision_of(path) == revisions()[0]
    assert create(path).search_experiments()


@pytest.mark.parametrize("is_moved", [False, True])
def test_unknown_tables_stop_nothing_but_a_move(
    current: Path, caplog: pytest.LogCaptureFixture, *, is_moved: bool
) -> None:
    """Artifacts that are at home by MLflow's own word stay there; a move is refused."""
    client, artifacts = create(current), current.with_name("artifacts")
    first = mlflow_client.open_experiment(client, "mmsearch/x", artifacts)
    client.create_run(first.experiment_id)
    change(current, "ALTER TABLE logged_models RENAME TO renamed")
    if is_moved:
        moved = "UPDATE runs SET artifact_uri = replace(artifact_uri, '/artifacts', '/elsewhere')"
        change(current, moved)
        with pytest.raises(MMSearchError, match="artifacts"):
            mlflow_client.open_experiment(client, "mmsearch/x", artifacts)
        return

    again = mlflow_client.open_experiment(client, "mmsearch/x", artifacts)

    assert again.experiment_id == first.experiment_id
    assert any("logged_models" in message for message in warned(caplog))


def test_view_that_mlflow_refuses_stops_nothing(
    current: Path,
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_tag = MlflowClient.set_experiment_tag

    def refuse(self: MlflowClient, experiment_id: str, key: str, value: Any) -> None:
        if key.startswith("mlflow.sharedViewState."):
            raise MlflowException.invalid_parameter_value("no such tag")
        set_tag(self, experiment_id, key, value)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    tracker = study.tracker(f"sqlite:///{current}", current.with_name("artifacts"))
    study.complete(0)

    tracker.open()
    tracker.show_trial(study.journal.read(0), study.journal)
    tracker.show_study(study.summary())

    assert tracker.lacking(study.journal.records()) == []
    assert any("view" in message for message in warned(caplog))
