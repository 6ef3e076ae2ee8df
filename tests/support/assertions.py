"""Checks of a study in journal, Optuna and MLflow, and of the processes of a run."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from mmsearch.search.optimizer.storage import open_storage
from mmsearch.tracking.journal.journal import Journal
from tests.support.commands import COMMAND, environment
from tests.support.waiting import wait_until

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def optuna_trials(
    workspace: Path, study: str, url: str | None = None
) -> list[optuna.trial.FrozenTrial]:
    """Read a study with plain Optuna, in the workspace or at `url`."""
    storage = open_storage(url or f"sqlite:///{workspace}/optuna.db")
    trials = optuna.load_study(study_name=study, storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    return trials


def mlflow_runs(
    workspace: Path, study: str, uri: str | None = None
) -> tuple[MlflowClient, list[Run], list[Run]]:
    """Read a study with plain MLflow: the client, parent runs and child runs."""
    client = MlflowClient(uri or f"sqlite:///{workspace}/mlflow.db")
    experiment = client.get_experiment_by_name(f"mmsearch/{study}")
    assert experiment is not None
    # On a server a run may have been created twice, and deleted again by StudyTracker.
    view = ViewType.ACTIVE_ONLY if uri else ViewType.ALL
    runs = list(client.search_runs([experiment.experiment_id], run_view_type=view))
    assert {run.info.lifecycle_stage for run in runs} == {"active"}
    parents = [run for run in runs if run.data.tags["mmsearch.kind"] == "study"]
    children = [run for run in runs if run.data.tags["mmsearch.kind"] == "trial"]
    return client, parents, sorted(children, key=lambda r: int(r.data.tags["mmsearch.trial"]))


def runs_of_kind(workspace: Path, study: str, kind: str) -> list[Run]:
    """Read a study's active runs of one kind with plain MLflow."""
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    experiment = client.get_experiment_by_name(f"mmsearch/{study}")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.mmsearch.kind = '{kind}'")
    return list(found)


def curves(workspace: Path, study: str) -> dict[int, Any]:
    """Return what must be equal between two runs of one study: everything but times."""
    return {
        record.number: (
            record.spec,
            record.state,
            [(line.step, line.train, line.dev_loss, line.weights_sha256) for line in record.curve],
        )
        for record in Journal(workspace / study).records()
    }


def assert_same_everywhere(
    workspace: Path,
    study: str,
    n_trials: int,
    *,
    storage: str | None = None,
    tracking_uri: str | None = None,
) -> None:
    """Check that Optuna, MLflow and the workspace have the same N trials, each once."""
    records = Journal(workspace / study).records()
    trials = optuna_trials(workspace, study, storage)
    client, parents, children = mlflow_runs(workspace, study, tracking_uri)
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert sum(record.state in {"COMPLETE", "PRUNED"} for record in records) == n_trials
    assert [t.number for t in trials] == [r.number for r in records]
    assert [int(run.data.tags["mmsearch.trial"]) for run in children] == [t.number for t in trials]
    for trial, record, run in zip(trials, records, children, strict=True):
        assert trial.state.name == record.state == run.data.tags["mmsearch.state"]
        assert run.info.status == STATUS[record.state]
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert record.outcome is not None
        assert trial.user_attrs.get("mmsearch.reason", "") == record.outcome.reason
        losses = {line.step: line.dev_loss for line in record.curve}
        assert trial.intermediate_values == losses
        history = client.get_metric_history(run.info.run_id, "loss/dev")
        assert sorted((m.step, m.value) for m in history) == sorted(losses.items())
        points = {"loss/train": list[tuple[int, float]](), "loss/batch": []}
        for line in record.curve:
            batches = [(step, loss) for step, loss, _ in line.train]
            points["loss/train" if line.train_loss is None else "loss/batch"] += batches
            if line.train_loss is not None:
                points["loss/train"].append((line.step, line.train_loss))
        for key, expected in points.items():
            history = client.get_metric_history(run.info.run_id, key)
            assert sorted((m.step, m.value) for m in history) == expected
        assert trial.params
        for name, value in trial.params.items():
            assert value == getattr(record.spec, name)
            assert run.data.params[name] == str(value)
        if record.state == "COMPLETE":
            assert trial.value == record.dev_loss == run.data.metrics["dev_loss"]
        names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        if record.state == "COMPLETE":
            assert names >= {"figures", "model", "samples.txt"}


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [COMMAND, "run", *map(str, words)],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def n_segments(study: Path) -> int:
    """Count the segments in the journal of a study, of which this is the folder."""
    paths = study.glob("trials/*/curve.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in paths)


def wait_for(journal: Journal, n_goal: int, process: subprocess.Popen[str]) -> None:
    """Wait until a study has so many segments in its journal."""
    for _ in range(1200):
        if n_segments(journal.folder) >= n_goal:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    pytest.fail("the search has not begun within a minute")


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found += map(int, task.read_text().split())
    return found


def workers_of(pid: int) -> list[int]:
    """Return the worker processes of a run."""
    found = []
    for child in children_of(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        if b"spawn_main" in command:
            found.append(child)
    return found


def assert_gone(pids: list[int]) -> None:
    """Check that processes end soon."""
    wait_until(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in pids))
