"""Databases land where they are named."""

import contextlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from mmsearch.errors import InputError
from mmsearch.search.study.urls import artifacts_folder, check_apart, storage_url, tracking_uri
from mmsearch.search.study.workspace import Workspace

HIDDEN = "postgresql://u:***@h/db"
FOLDERS = ["runs", "a b", "a?b", "a%b", "a%20b", "a%2Fb", "a#b", "a&b=c", "a@b:c", "a+b"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Name a workspace, which nothing has made yet."""
    return Workspace.at(tmp_path / "runs")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the person who runs the tests has set."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("folder", [*FOLDERS, "ü名", "'a\"", "\\"])
def test_local_databases_land_in_the_workspace(tmp_path: Path, folder: str) -> None:
    """Each of these characters means something in a URL; the file must be where it is sought."""
    workspace = Workspace.at(tmp_path / folder)
    workspace.create()

    for url in (storage_url(workspace, None, None), tracking_uri(workspace, None, None)):
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE here (x)")
        engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert sorted(path.name for path in workspace.root.iterdir()) == ["mlflow.db", "optuna.db"]
    for path in workspace.root.iterdir():
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("here",)]


@pytest.mark.parametrize(
    ("given", "environment", "stored", "tracking", "storage"),
    [
        (None, None, None, "mlflow.db", "optuna.db"),
        (None, None, "mysql://stored", "mysql://stored", "mysql://stored"),
        ("", "", "mysql://stored", "mysql://stored", "mysql://stored"),
        (None, "http://env", None, "http://env", "optuna.db"),
        (None, "http://env", "mysql://stored", "http://env", "mysql://stored"),
        ("mysql://given", "http://env", "mysql://stored", "mysql://given", "mysql://given"),
        (None, "http://u:secret@h", "mysql://u:***@h", "http://u:secret@h", None),
        ("mysql://u:secret@h", None, "mysql://u:***@h", "mysql://u:secret@h", "mysql://u:secret@h"),
    ],
)
def test_given_place_comes_before_the_environments_and_the_stored_one(  # noqa: PLR0913, PLR0917 (a row of the table)
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    environment: str | None,
    stored: str | None,
    tracking: str,
    storage: str | None,
) -> None:
    """MLFLOW_TRACKING_URI means what it means to every MLflow program; it may have a password."""
    if environment is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    assert tracking_uri(workspace, given, stored).endswith(tracking)
    if storage is not None:
        assert storage_url(workspace, given, stored).endswith(storage)


@pytest.mark.parametrize("given", [None, ""])
def test_hidden_password_must_be_given_again(workspace: Workspace, given: str | None) -> None:
    """It was never stored; nobody is to be asked for `***` by a database server."""
    for place, option in ((storage_url, "--storage"), (tracking_uri, "--tracking-uri")):
        with pytest.raises(InputError, match=f"password .*{option}"):
            place(workspace, given, HIDDEN)


def test_artifacts_lie_beside_a_local_database_alone(workspace: Workspace) -> None:
    """A server has its own place for them, which a local path would override."""
    local = tracking_uri(workspace, None, None)
    assert artifacts_folder(workspace, local) == workspace.root / "artifacts"
    assert artifacts_folder(workspace, "http://127.0.0.1:5000") is None


@pytest.mark.parametrize(
    "uri",
    [
        *("nonsense", "://", "sqlite://", "sqlite:///", "sqlite:///:memory:", "http://a\nb"),
        *("./mlruns", "file:///somewhere/mlruns", "ftp://somewhere/else"),
    ],
)
def test_tracking_uri_that_keeps_nothing_is_bad_input(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """Before anything is trained, by the name of the option or the variable it came from."""
    with pytest.raises(InputError, match="--tracking-uri"):
        tracking_uri(workspace, uri, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for given in (None, uri):  # as the command line passes it on
        with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
            tracking_uri(workspace, given, None)


@pytest.mark.parametrize(
    ("storage", "tracking", "is_shared"),
    [
        ("sqlite:////a/x.db", "sqlite:////a/b/../x.db", True),
        ("sqlite:////a/x.db", "sqlite:////a/y.db", False),
        ("postgresql://u:p@h/x", "postgresql+psycopg://other@h/x", True),
        ("postgresql://u:p@h/x", "postgresql://u:p@h/y", False),
        ("postgresql://h/x", "postgresql://u:p@H:5432/x", True),
        ("postgresql://h/x", "postgresql://h:5433/x", False),
        ("postgresql://localhost/x", "postgresql+psycopg://127.0.0.1/x?connect_timeout=3", True),
        ("postgresql://localhost/x", "postgresql://u@[::1]:5432/x", True),
        ("postgresql:///x", "postgresql://localhost/x", True),
        ("postgresql:///x?host=h", "postgresql://h/x", True),
        ("postgresql:///x?host=h:5433", "postgresql://h:5433/x", True),
        ("postgresql:///x?host=h&port=5433", "postgresql://h/x", False),
        ("postgresql:///?host=h&dbname=x", "postgresql://h/x", True),
        ("postgresql:///x?host=/tmp/a", "postgresql:///x?host=/tmp/b", False),
        ("postgresql://h/x?options=-csearch_path=a", "postgresql://h/x", False),
        ("mysql://u@h/x", "mysql+pymysql://h:3306/x?charset=utf8mb4", True),
        ("mariadb+pymysql://h/x", "mysql://h/x", True),
        ("mssql+pyodbc:///?odbc_connect=a", "mssql+pyodbc:///?odbc_connect=b", False),
        ("sqlite:////a/x.db?timeout=5", "sqlite:///file:/a/x.db?uri=true", True),
        ("postgresql://u:p@h/x", "mysql://u:p@h/x", False),
        ("sqlite:////a/x.db", "http://h/x", False),
    ],
)
def test_optuna_and_mlflow_do_not_share_a_database(
    storage: str, tracking: str, *, is_shared: bool
) -> None:
    """Each would find the other's tables, and neither could migrate its own."""
    expected = pytest.raises(InputError, match="two") if is_shared else contextlib.nullcontext()
    with expected:
        check_apart(storage, tracking)


@pytest.mark.parametrize(
    ("trouble", "named"),
    [
        ("none", None),
        ("another id", "does not have the study"),
        ("busy", "locked"),
        ("missing", "does not exist"),
        ("no table", "does not have the study"),
        ("text", "does not have the study"),
        ("unreadable", "name too long"),
    ],
)
def test_stored_place_is_opened_if_it_knows_the_study(
    workspace: Workspace, tmp_path: Path, trouble: str, named: str | None
) -> None:
    """Who is told that the right file does not know the study would make a new one."""
    path = tmp_path / "optuna.db"
    url = f"sqlite:///{path}?timeout=0"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE study_user_attributes (key, value_json)")
        other.execute("INSERT INTO study_user_attributes VALUES ('mmsearch.id', '\"an-id\"')")
        other.commit()
        if trouble == "busy":
            other.execute("BEGIN EXCLUSIVE")
        elif trouble == "missing":
            path.unlink()
        elif trouble == "no table":
            other.execute("DROP TABLE study_user_attributes")
        elif trouble == "text":
            path.write_text("notes\n" * 99)
        elif trouble == "unreadable":
            url = url.replace("optuna.db", "x" * 300)
        study_id = "another" if trouble == "another id" else "an-id"
        if named is None:
            assert storage_url(workspace, None, url, study_id) == url
        else:
            with pytest.raises(InputError, match=f"{named}.*--storage"):
                storage_url(workspace, None, url, study_id)
