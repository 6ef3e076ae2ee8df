"""With MLflow down, hung or killed nothing waits, and each thing is uploaded once."""

import hashlib
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mmsearch.tracking import uploader as uploader_module
from mmsearch.tracking.mlflow.client import PREFIX
from mmsearch.tracking.uploader import Uploader
from tests.support.mlflow_server import Service, free_port
from tests.support.tracked_study import NewStore, Study
from tests.support.waiting import PATIENCE_S, wait_until

STILL_S = 3
"""Seconds without a change after which a slow server has carried out its calls."""


@pytest.fixture(scope="module")
def service(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return the server of this module, not yet started."""
    folder = tmp_path_factory.mktemp("server")
    new_store.copy(folder)
    service = Service(folder, folder / "mlflow.db", free_port())
    yield service
    service.kill()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader_module, "FLUSH_S", 0.05)
    monkeypatch.setattr(uploader_module, "RETRY_S", (0.05, 0.1))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


def wait_until_still(value: Callable[[], object]) -> None:
    """Wait until a value has not changed for a while."""
    deadline = time.monotonic() + PATIENCE_S
    seen, since = value(), time.monotonic()
    while time.monotonic() - since < STILL_S:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        if (now := value()) != seen:
            seen, since = now, time.monotonic()


def uploader_to(study: Study, uri: str) -> tuple[Uploader, list[str]]:
    """Start an uploader, as in a process of its own; returns it and its messages."""
    told: list[str] = []
    artifacts = study.journal.folder / "artifacts" if uri.startswith("sqlite") else None
    uploader = Uploader(study.tracker(uri, artifacts), study.journal, told.append)
    uploader.start()
    return uploader, told


def runs(study: Study, uri: str, kind: str = "trial") -> list[Run]:
    """Return a study's runs of one kind by trial; none while there is no experiment."""
    client = client_of(uri)
    experiment = client.get_experiment_by_name(PREFIX + study.facts.name)
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id])
    chosen = [run for run in found if run.data.tags["mmsearch.kind"] == kind]
    return sorted(chosen, key=lambda run: int(run.data.tags.get("mmsearch.trial", "0")))


def client_of(uri: str) -> MlflowClient:
    """Open a store with MLflow's own client."""
    from mlflow import MlflowClient  # noqa: PLC0415 (after telemetry was turned off)

    return MlflowClient(tracking_uri=uri)


def check_whole(study: Study, uri: str, status: str = "FINISHED") -> None:
    """Check that MLflow holds each trial of the journal once, and each of its points once."""
    client = client_of(uri)
    children = runs(study, uri)
    (parent,) = runs(study, uri, "study")
    records = study.journal.records()
    assert parent.info.status == status
    assert [run.data.tags["mmsearch.trial"] for run in children] == [str(r.number) for r in records]
    for run, record in zip(children, records, strict=True):
        ends = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
        assert run.info.status == ends.get(record.state, "SCHEDULED")
        assert run.data.tags["mmsearch.state"] == (
            "INTERRUPTED" if record.state == "RUNNING" else record.state
        )
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["learning_rate"] == str(record.spec.learning_rate)
        expected = {
            "loss/train": [(s, loss) for line in record.curve for s, loss, _ in line.train],
            "loss/dev": [(line.step, line.dev_loss) for line in record.curve],
        }
        for key, points in expected.items():
            history = client.get_metric_history(run.info.run_id, key)
            assert Counter((point.step, point.value) for point in history) == Counter(points)
        held = {item.path for item in client.list_artifacts(run.info.run_id, "model")}
        whole = {"model/spec.json", "model/weights.safetensors"}
        assert held == (whole if record.state == "COMPLETE" else set())


def search(study: Study, uploader: Uploader, first: int, n_trials: int) -> None:
    """Write and show some trials at once, segment by segment, as a search does."""
    numbers = range(first, first + n_trials)
    for number in numbers:
        uploader.show(study.begin(number, n_segments=3))
    for _ in range(3):
        for number in numbers:
            uploader.show(study.train(number))
    for number in numbers:
        state = ("COMPLETE", "PRUNED", "FAIL")[number % 3]
        uploader.show(study.end(number, state, error="Traceback" if state == "FAIL" else ""))


def test_outage_of_a_whole_search_is_reported_once_and_filled_in_later(
    service: Service,
    study: Study,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A server that answers each call with an error 500 loses nothing."""
    service.start()
    assert runs(study, service.uri) == []  # so that the server has opened its store
    service.break_store()
    uploader, told = uploader_to(study, service.uri)
    errors: list[Exception] = []

    search(study, uploader, 0, 3)
    for _ in range(3):  # failures in a row
        wait_until(lambda: uploader.error is not None and uploader.error not in errors)
        assert uploader.error is not None
        errors.append(uploader.error)

    assert uploader.close(study.summary()) is False
    assert uploader.error is not None
    assert len(told) == 1
    assert not [r for r in caplog.records if not r.name.startswith("mmsearch")]
    assert "\n" not in told[0]
    assert [record.state for record in study.journal.records()] == ["COMPLETE", "PRUNED", "FAIL"]

    service.mend_store()
    uploader, told = uploader_to(study, service.uri)

    assert uploader.close(study.summary()) is True
    assert (told, uploader.error) == ([], None)
    check_whole(study, service.uri)
    assert capfd.readouterr() == ("", ""), "MLflow must not write into the display"


def test_hung_server_holds_nobody_up(service: Service, study: Study) -> None:
    """The coordinator goes on while a call to MLflow hangs, however long that takes."""
    service.start()
    uploader, told = uploader_to(study, service.uri)
    uploader.show(study.begin(0, n_segments=5))
    wait_until(lambda: len(runs(study, service.uri)) == 1)
    records = [study.train(0) for _ in range(4)]

    service.signal(signal.SIGSTOP)
    try:
        for record in records:
            uploader.show(record)
        ended = study.end(0, "PRUNED")
        for _ in range(1000):
            uploader.show(ended)
        # Nothing can have been answered, and no call has been given up yet: show waited for none.
        assert (told, uploader.error) == ([], None)
    finally:
        service.signal(signal.SIGCONT)

    assert uploader.close(study.summary()) is True
    check_whole(study, service.uri)


def test_server_that_answers_too_late_doubles_nothing(
    service: Service, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that were given up are carried out late, beside those that repeat them."""
    service.start()
    uploader, told = uploader_to(study, service.uri)
    uploader.show(study.begin(0))
    wait_until(lambda: any(run.data.params for run in runs(study, service.uri)))  # and it is idle

    # Another writer makes the server slow: it reads as before, but each write waits.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with closing(sqlite3.connect(service.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        search(study, uploader, 1, 2)
        wait_until(lambda: told)
        other.execute("ROLLBACK")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    wait_until(lambda: uploader.error is None)
    wait_until_still(lambda: len(runs(study, service.uri)))  # what was given up has arrived
    uploader.show(study.train(0))
    uploader.show(study.end(0, "PRUNED"))

    assert uploader.close(study.summary()) is True
    assert len(told) == 1
    check_whole(study, service.uri)


def test_killed_server_that_comes_back_lacks_nothing(service: Service, study: Study) -> None:
    """A server may die in any call; the uploader finds what arrived, and sends the rest."""
    service.start()
    uploader, told = uploader_to(study, service.uri)
    search(study, uploader, 0, 2)
    wait_until(lambda: any(run.data.metrics for run in runs(study, service.uri)))

    service.kill()
    search(study, uploader, 2, 2)
    uploader.show(study.begin(4, n_segments=2))
    uploader.show(study.train(4))
    wait_until(lambda: told)
    service.start()
    wait_until(lambda: uploader.error is None)
    uploader.show(study.train(4))
    uploader.show(study.end(4, "COMPLETE"))

    assert uploader.close(study.summary()) is True
    assert len(told) == 1
    check_whole(study, service.uri)


def test_close_gives_up_on_a_server_that_is_behind_and_hangs(
    service: Service, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reported outage the end of a search does not wait for a call's last try."""
    service.kill()
    monkeypatch.setattr(uploader_module, "GRACE_S", 0.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3600")
    uploader, told = uploader_to(study, service.uri)
    wait_until(lambda: told)

    with socket.create_server(("127.0.0.1", service.port)) as hung:  # it takes calls, no more
        hung.settimeout(PATIENCE_S)
        taken, _ = hung.accept()
        closed: list[bool] = []
        closer = threading.Thread(
            target=lambda: closed.append(uploader.close(study.summary())), daemon=True
        )
        closer.start()
        closer.join(PATIENCE_S)
        assert closed == [False]
        taken.close()
    assert len(told) == 1


def test_study_that_goes_on_keeps_its_runs(
    new_store: NewStore, study: Study, tmp_path: Path
) -> None:
    """A trial that was interrupted goes on in its MLflow run; one that was not sent is added."""
    uri = new_store.copy(tmp_path)
    uploader, _ = uploader_to(study, uri)
    search(study, uploader, 0, 2)
    uploader.show(study.begin(2, n_segments=2))
    uploader.show(study.train(2))
    assert uploader.close(study.summary(is_done=False)) is True
    check_whole(study, uri, status="KILLED")
    before = [run.info.run_id for run in runs(study, uri)]
    study.complete(3)  # as by a search that was killed before it could upload

    uploader, _ = uploader_to(study, uri)
    wait_until(lambda: runs(study, uri, "study")[0].info.status == "RUNNING")
    uploader.show(study.train(2))
    uploader.show(study.end(2, "COMPLETE"))
    assert uploader.close(study.summary()) is True

    check_whole(study, uri)
    assert [run.info.run_id for run in runs(study, uri)][:3] == before


def empty_weights(study: Study) -> Callable[[], object]:
    """Damage the weights of trial 1; returns what repairs them."""
    path = study.journal.weights_path(1)
    content = path.read_bytes()
    path.write_bytes(b"")
    return lambda: path.write_bytes(content)


def foreign_weights(study: Study) -> Callable[[], object]:
    """Make trial 1 name weights that cannot be read; returns what repairs it."""
    folder, odd = study.journal.trial_folder(1), b"not weights, but what the curve names"
    whole = {name: (folder / name).read_bytes() for name in ("curve.jsonl", "weights.safetensors")}
    known, new = (hashlib.sha256(w).hexdigest() for w in (whole["weights.safetensors"], odd))
    (folder / "weights.safetensors").write_bytes(odd)
    (folder / "curve.jsonl").write_bytes(whole["curve.jsonl"].replace(known.encode(), new.encode()))
    return lambda: [(folder / name).write_bytes(content) for name, content in whole.items()]


@pytest.mark.parametrize("damage", [empty_weights, foreign_weights])
def test_trial_that_cannot_be_uploaded_keeps_no_other_out(
    new_store: NewStore,
    study: Study,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Study], Callable[[], object]],
) -> None:
    """Whatever is wrong with one trial is reported once, logged, and made up for later."""
    uri = new_store.copy(tmp_path)
    for number in range(3):
        study.complete(number)
    caplog.set_level("INFO", logger="mmsearch")
    repair = damage(study)
    # Uploaders of earlier tests may still try to reach their servers.
    others = {thread.ident for thread in threading.enumerate()}

    def n_tries() -> int:
        return sum(bool(r.exc_info) and r.thread not in others for r in caplog.records)

    uploader, told = uploader_to(study, uri)
    wait_until(lambda: n_tries() == uploader_module.MAX_TRIES)
    uploader.show(study.begin(3))
    uploader.show(study.train(3))
    uploader.show(study.end(3, "PRUNED"))

    assert uploader.close(study.summary()) is False
    assert n_tries() == uploader_module.MAX_TRIES, "it is given up, even at the end"
    (reason,) = told
    assert "trial 1" in reason or str(study.journal.weights_path(1)) in reason
    statuses = [run.info.status for run in runs(study, uri)]
    assert statuses == ["FINISHED", "RUNNING", "FINISHED", "KILLED"]
    assert [run.info.status for run in runs(study, uri, "study")] == ["FINISHED"]

    repair()
    uploader, told = uploader_to(study, uri)
    assert uploader.close(study.summary()) is True
    check_whole(study, uri)
