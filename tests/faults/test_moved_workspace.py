"""Artifacts stay in the workspace, wherever it is moved to and whatever its database says."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support.forked_cli import Warm

RUN = ("run", "--study", "few", "--workers", 2)


def execute(folder: Path, *statements: str) -> None:
    """Change a workspace's MLflow database directly."""
    with closing(sqlite3.connect(folder / "runs/mlflow.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def runs_of(folder: Path) -> tuple[MlflowClient, list[Run]]:
    """Find a study's runs with a plain client."""
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    return client, list(client.search_runs([experiment.experiment_id]))


def state(folder: Path) -> dict[Path, int]:
    """Return when each file of a folder was changed."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def path_of(uri: str) -> Path:
    """Return the folder that a URI names, without `..`."""
    return Path(os.path.normpath(unquote(urlsplit(uri).path)))


def assert_inside(folder: Path) -> None:
    """Check that a plain client finds every artifact of the study inside its workspace."""
    home = folder / "runs/artifacts"
    client, runs = runs_of(folder)
    for run in runs:
        assert path_of(run.info.artifact_uri) == home / run.info.run_id / "artifacts"
        if (
            run.data.tags["mmsearch.state"] == "COMPLETE"
            and run.data.tags["mmsearch.kind"] == "trial"
        ):
            names = {file.path for file in client.list_artifacts(run.info.run_id)}
            assert names >= {"figures", "model", "samples.txt"}
    for version in client.search_model_versions("name = 'mmsearch-few'"):
        where = path_of(client.get_model_version_download_uri(version.name, version.version))
        assert where.is_relative_to(home)
        assert (where / "MLmodel").is_file()


def test_moved_workspace_takes_its_artifacts_along(copied: Path, warm_command: Warm) -> None:
    """MLflow stores absolute paths: all are rewritten, and nothing appears in the old place."""
    stories: list[tuple[object, ...]] = [(*RUN, "-n", 5), ("final-test", "--trial", 0)]
    for words in stories:
        warm_command(*words, folder=copied, code=0)
    assert_inside(copied)
    (copied / "runs").rename(copied / "moved")
    (copied / "a place").mkdir()
    (copied / "moved").rename(copied / "a place/runs")

    stories = [(*RUN, "-n", 6), ("trials",), ("sample",), ("replay", 5), ("export", "taken")]
    for words in stories:
        warm_command(*words, folder=copied / "a place", code=0)

    assert_inside(copied / "a place")
    assert not (copied / "runs").exists()


@pytest.mark.parametrize("place", ["{}", "file://{}/../mine"])
def test_forged_artifact_location_is_not_written_to(
    copied: Path, warm_command: Warm, place: str
) -> None:
    """A forged database does not choose where our figures are written."""
    mine = copied / "mine"
    (mine / "figures").mkdir(parents=True)
    (mine / "figures/loss.png").write_text("mine\n")
    forged = place.format(mine)
    execute(
        copied,
        f"UPDATE experiments SET artifact_location = '{forged}' WHERE name = 'mmsearch/few'",  # noqa: S608 (ours)
        f"UPDATE runs SET artifact_uri = '{forged}'",  # noqa: S608 (ours)
        "UPDATE runs SET status = 'RUNNING'",
    )
    before = state(mine)

    done = warm_command(*RUN, "-n", 5, folder=copied, code=0)

    assert "MLflow is" not in done.stdout + done.stderr
    assert state(mine) == before
    assert_inside(copied)


def test_run_whose_name_is_a_path_is_refused(copied: Path, warm_command: Warm) -> None:
    """A run's id names a folder, so only an id as MLflow creates them is accepted."""
    mine = copied / "mine"
    mine.mkdir()
    execute(
        copied,
        "PRAGMA foreign_keys = OFF",
        *(
            f"UPDATE {table} SET run_uuid = '../../mine' WHERE run_uuid = "  # noqa: S608 (ours)
            "(SELECT min(run_uuid) FROM runs WHERE experiment_id > 0)"
            for table in ("tags", "params", "metrics", "latest_metrics", "runs")
        ),
    )

    for words in (("sync",), ("ui", "--no-browser")):
        done = warm_command(*words, folder=copied, code=1)
        assert "mlflow.db" in done.stderr.replace("\n", "")
    assert list(mine.iterdir()) == []


def test_other_experiments_of_the_database_are_left_alone(copied: Path, warm_command: Warm) -> None:
    """The user's own runs, and where their artifacts lie, are not ours to change."""
    client, _ = runs_of(copied)
    theirs = client.create_experiment("theirs", artifact_location=f"file://{copied}/theirs")
    run = client.create_run(theirs)

    warm_command("sync", folder=copied, code=0)

    found = client.get_run(run.info.run_id)
    assert found.info.artifact_uri == f"file://{copied}/theirs/{run.info.run_id}/artifacts"
