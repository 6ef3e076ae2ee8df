"""With MLflow's server down or hanging, a search neither stops nor waits, and loses nothing."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.assertions import assert_same_everywhere, mlflow_runs
from tests.support.background_search import Search
from tests.support.fault_injection import hurried
from tests.support.forked_cli import Done, Warm
from tests.support.mlflow_server import Service, free_port

N_TRIALS = 2
HURRIED = hurried(0.1, 0.2)
SHORT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""Environment in which a call to MLflow fails soon."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return the server of this module, not yet started."""
    folder = tmp_path_factory.mktemp("server")
    service = Service(folder, folder / "mlflow.db", free_port())
    yield service
    service.kill()


def words(corpus: Path, folder: Path, study: str, service: Service) -> tuple[object, ...]:
    """Return the arguments of a search with trials of 20 segments."""
    config = folder / "config.toml"
    config.write_text('[space]\nhidden_width = 32\n[search]\npruner = "none"\n')
    given = ("--corpus", corpus, "--config", config, "--study", study, "--steps", 10_000)
    return (*given, "--workers", 2, "-n", N_TRIALS, "--tracking-uri", service.uri)


def assert_behind(done: Done) -> None:
    """Check that a search succeeded with MLflow behind, and said once how to fill it in."""
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert said.count("MLflow is unreachable") == 1
    assert said.count("mmsearch sync") == 1
    assert f"{N_TRIALS} of {N_TRIALS} trials" in said
    assert "Traceback" not in said


def test_server_that_is_down_stops_no_search(
    service: Service, small_corpus: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """With the server down throughout, `mmsearch sync` uploads everything later."""
    service.kill()
    given = words(small_corpus, tmp_path, "down", service)
    quick = (*given, "--steps", 1000)
    assert_behind(warm_command("run", *quick, folder=tmp_path, patch=HURRIED))

    service.start()
    place = ("--tracking-uri", service.uri)  # which never answered, so that it is not stored
    warm_command("sync", "--study", "down", *place, folder=tmp_path, code=0)

    assert_same_everywhere(tmp_path / "runs", "down", N_TRIALS, tracking_uri=service.uri)


@pytest.mark.long
def test_server_that_hangs_holds_up_no_search(
    service: Service, small_corpus: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """Calls that were given up and are carried out late duplicate nothing."""
    service.start()
    given = words(small_corpus, tmp_path, "hanging", service)
    search = Search(warm_command, tmp_path, *given, patch=HURRIED, **SHORT)
    search.wait(6)
    service.signal(signal.SIGSTOP)
    try:
        assert_behind(search.end())
    finally:
        service.signal(signal.SIGCONT)
    _, _, runs = mlflow_runs(tmp_path / "runs", "hanging", service.uri)
    late = {key: tag for key, tag in runs[0].data.tags.items() if key.startswith("mmsearch.")}
    MlflowClient(service.uri).create_run(runs[0].info.experiment_id, tags=late)

    warm_command("run", *given, "-n", N_TRIALS + 1, folder=tmp_path, code=0)

    assert_same_everywhere(tmp_path / "runs", "hanging", N_TRIALS + 1, tracking_uri=service.uri)
