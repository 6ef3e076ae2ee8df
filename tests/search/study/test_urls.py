"""Databases land where they are named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy

from mmsearch.errors import InputError
from mmsearch.search.study.urls import artifacts_folder, storage_url, tracking_uri
from mmsearch.search.study.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = "postgresql://u:***@h/db"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Name a workspace, which nothing has made yet."""
    return Workspace.at(tmp_path / "runs")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the person who runs the tests has set."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    "folder",
    [
        "runs",
        "a b",
        "a?b",
        "a%b",
        "a%20b",
        "a%2Fb",
        "a#b",
        "a&b=c",
        "a@b:c",
        "a+b",
        "ü名",
        "'a\"",
        "\\",
    ],
)
def test_local_databases_land_in_the_workspace(tmp_path: Path, folder: str) -> None:
    """Each of these characters means something in a URL; the file must be where it is sought."""
    workspace = Workspace.at(tmp_path / folder)
    workspace.create()

    for url, name in (
        (storage_url(workspace, None, None), "optuna.db"),
        (tracking_uri(workspace, None, None), "mlflow.db"),
    ):
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE here (x)")
        engine.dispose()
        file = sqlite3.connect(tmp_path / folder / name)
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("here",)]
        file.close()
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert sorted(path.name for path in workspace.root.iterdir()) == ["mlflow.db", "optuna.db"]


def test_given_storage_comes_before_the_stored_one(workspace: Workspace) -> None:
    """A study whose database was moved is found by saying so once."""
    assert storage_url(workspace, "mysql://a/b", "mysql://c/d") == "mysql://a/b"
    assert storage_url(workspace, None, "mysql://c/d") == "mysql://c/d"
    assert storage_url(workspace, "", "mysql://c/d") == "mysql://c/d"
    assert storage_url(workspace, None, None).endswith("/runs/optuna.db")


def test_tracking_is_given_then_the_environments_then_the_stored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLFLOW_TRACKING_URI means here what it means to every MLflow program."""
    stored = "http://stored"
    assert tracking_uri(workspace, None, None).endswith("/runs/mlflow.db")
    assert tracking_uri(workspace, None, stored) == stored

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env")
    assert tracking_uri(workspace, None, stored) == "http://env"
    assert tracking_uri(workspace, None, None) == "http://env"
    assert tracking_uri(workspace, "http://given", stored) == "http://given"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(workspace, None, stored) == stored


@pytest.mark.parametrize("given", [None, ""])
def test_hidden_password_must_be_given_again(workspace: Workspace, given: str | None) -> None:
    """It was never stored; nobody is to be asked for `***` by a database server."""
    with pytest.raises(InputError, match=r"password .*--storage"):
        storage_url(workspace, given, HIDDEN)
    with pytest.raises(InputError, match=r"password .*--tracking-uri"):
        tracking_uri(workspace, given, HIDDEN)

    full = HIDDEN.replace("***", "secret")
    assert storage_url(workspace, full, HIDDEN) == full


def test_environment_can_give_the_hidden_password(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password is kept out of shell histories by the environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://u:secret@h")

    assert tracking_uri(workspace, None, "http://u:***@h") == "http://u:secret@h"


def test_artifacts_lie_beside_a_local_database_alone(workspace: Workspace) -> None:
    """A server has its own place for them, which a local path would override."""
    assert artifacts_folder(workspace, tracking_uri(workspace, None, None)) == (
        workspace.root / "artifacts"
    )
    assert artifacts_folder(workspace, "http://127.0.0.1:5000") is None


@pytest.mark.parametrize(
    "uri",
    ["nonsense", "://", "sqlite://", "sqlite:///", "sqlite:///:memory:", "http://a\nb", "./mlruns"],
)
def test_tracking_uri_that_keeps_nothing_is_bad_input(workspace: Workspace, uri: str) -> None:
    """MLflow would make a file called `:memory:`, or say in several lines that it cannot."""
    with pytest.raises(InputError, match="--tracking-uri takes the URI"):
        tracking_uri(workspace, uri, None)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Make a database outside the workspace that knows the study `an-id`."""
    path = tmp_path / "optuna.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE study_user_attributes (key, value_json)")
        database.execute("INSERT INTO study_user_attributes VALUES ('mmsearch.id', '\"an-id\"')")
        database.commit()
    return path


def test_place_that_knows_the_study_is_opened(workspace: Workspace, elsewhere: Path) -> None:
    """What was named once is found again."""
    url = f"sqlite:///{elsewhere}"

    assert storage_url(workspace, None, url, "an-id") == url
    with pytest.raises(InputError, match=r"does not have the study; .*--storage"):
        storage_url(workspace, None, url, "another")


@pytest.mark.parametrize("trouble", ["busy", "missing", "another", "text", "unreadable"])
def test_place_that_cannot_be_asked_is_told_as_what_it_is(
    workspace: Workspace, elsewhere: Path, trouble: str
) -> None:
    """Who is told that the right file does not know the study would make a new one."""
    url, expected = f"sqlite:///{elsewhere}?timeout=0", "does not have the study"
    with closing(sqlite3.connect(elsewhere)) as other:
        if trouble == "busy":
            other.execute("BEGIN EXCLUSIVE")
            expected = "database is locked"
        elif trouble == "missing":
            elsewhere.unlink()
            expected = "does not exist"
        elif trouble == "another":
            other.execute("DROP TABLE study_user_attributes")
        elif trouble == "text":
            elsewhere.write_text("notes\n" * 99)
        else:
            elsewhere.rename(elsewhere.with_name("x" * 250))
            url = url.replace("optuna.db", "x" * 300)
            expected = "name too long"
        with pytest.raises(InputError, match=expected) as caught:
            storage_url(workspace, None, url, "an-id")
    assert "--storage" in str(caught.value)
