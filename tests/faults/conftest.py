"""What several fault tests share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dask_cluster import DaskCluster, forking
from tests.support.mlflow_server import free_port


@pytest.fixture(scope="session")
def forks() -> Iterator[subprocess.Popen[str]]:
    """Fork processes of clusters."""
    with forking() as process:
        yield process


@pytest.fixture
def cluster(tmp_path: Path, forks: subprocess.Popen[str]) -> Iterator[DaskCluster]:
    """Start a scheduler without workers."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = DaskCluster(folder, f"tcp://127.0.0.1:{free_port()}", forks)
    made.start_scheduler()
    yield made
    made.end()
