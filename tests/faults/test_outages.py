"""With MLflow down, killed, broken or hung, a search neither stops, waits nor loses anything."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from tests.support.assertions import assert_same_everywhere, mlflow_runs
from tests.support.background_search import Search
from tests.support.fault_injection import hurried
from tests.support.mlflow_server import Service, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.forked_cli import Done, Warm

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


@pytest.fixture
def words(
    small_corpus: Path, tmp_path: Path, service: Service, request: pytest.FixtureRequest
) -> tuple[object, ...]:
    """Return the arguments of a search named after the test, with trials of 20 segments."""
    config = tmp_path / "config.toml"
    config.write_text('[space]\nhidden_width = 32\n[search]\npruner = "none"\n')
    name = request.node.name[len("test_") : 40]
    named = ("--corpus", small_corpus, "--config", config, "--study", name, "--steps", 10_000)
    return (*named, "--workers", 2, "-n", N_TRIALS, "--tracking-uri", service.uri)


def assert_behind(done: Done) -> None:
    """Check that a search succeeded with MLflow behind, and said once how to fill it in."""
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert said.count("MLflow is unreachable") == 1
    assert said.count("mmsearch sync") == 1
    assert f"{N_TRIALS} of {N_TRIALS} trials" in said
    assert "Traceback" not in said


def sync(search: Search, service: Service, warm_command: Warm, folder: Path) -> None:
    """Upload with `mmsearch sync`, and check that everything is there once."""
    done = warm_command("sync", "--study", search.journal.name, folder=folder)
    assert done.returncode == 0, done.stderr
    check(search, service, folder, N_TRIALS)


def check(search: Search, service: Service, folder: Path, n_trials: int) -> None:
    """Check that everything is in all stores once."""
    assert_same_everywhere(folder / "runs", search.journal.name, n_trials, tracking_uri=service.uri)


def test_server_that_is_down_stops_no_search(
    service: Service, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """With the server down throughout, `mmsearch sync` uploads later."""
    service.kill()
    search = Search(warm_command, tmp_path, *words, patch=HURRIED)
    assert_behind(search.end())

    service.start()
    sync(search, service, warm_command, tmp_path)


@pytest.mark.long
def test_killed_server_is_filled_in_when_it_is_back(
    service: Service, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """The next run fills it in; if the server is back before the end, so does the same run."""
    service.start()
    search = Search(warm_command, tmp_path, *words, patch=HURRIED, **SHORT)
    search.wait(6)
    service.kill()
    assert_behind(search.end())

    service.start()
    more = (*words, "-n", N_TRIALS + 1)
    search = Search(warm_command, tmp_path, *more, patch=HURRIED, **SHORT)
    search.wait(6)
    with search.paused():
        service.kill()
    search.wait(6)
    with search.paused():
        service.start()
    done = search.end()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("MLflow is unreachable") <= 1
    assert "mmsearch sync" not in done.stdout
    check(search, service, tmp_path, N_TRIALS + 1)


def test_server_that_answers_with_errors_stops_no_search(
    service: Service, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """Each answer is 500 until the store is repaired."""
    service.start()
    search = Search(warm_command, tmp_path, *words, patch=HURRIED, **SHORT)
    search.wait(6)
    service.break_store()
    try:
        assert_behind(search.end())
    finally:
        service.mend_store()

    sync(search, service, warm_command, tmp_path)


@pytest.mark.long
def test_server_that_hangs_holds_up_no_search(
    service: Service, words: tuple[object, ...], warm_command: Warm, tmp_path: Path
) -> None:
    """Calls that were given up and are carried out late duplicate nothing."""
    service.start()
    search = Search(warm_command, tmp_path, *words, patch=HURRIED, **SHORT)
    search.wait(6)
    service.signal(signal.SIGSTOP)
    try:
        assert_behind(search.end())
    finally:
        service.signal(signal.SIGCONT)
    _, _, runs = mlflow_runs(tmp_path / "runs", search.journal.name, service.uri)
    late = {key: tag for key, tag in runs[0].data.tags.items() if key.startswith("mmsearch.")}
    MlflowClient(service.uri).create_run(runs[0].info.experiment_id, tags=late)

    sync(search, service, warm_command, tmp_path)
