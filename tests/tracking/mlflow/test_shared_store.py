"""One MLflow store for several workspaces: a study's runs are known by its id, not by its name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.mlflow.tracker import StudyTracker
from tests.support.tracked_study import NewStore, Study

if TYPE_CHECKING:
    from pathlib import Path


def test_two_workspaces_share_one_mlflow(tmp_path: Path, new_store: NewStore) -> None:
    """Studies of one name on one server neither show nor delete each other's runs."""
    uri = new_store.copy(tmp_path)
    studies = {name: Study(Journal(tmp_path / name / "few")) for name in "ab"}
    for name, number in (("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2)):
        study = studies[name]
        record = study.complete(number)
        facts = dataclasses.replace(study.facts, id=name)
        tracker = StudyTracker(uri=uri, facts=facts, artifacts=tmp_path / "artifacts")
        tracker.open()
        tracker.show_trial(record, study.journal)
        tracker.show_study(study.summary())
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    kinds = sorted((r.data.tags["mmsearch.study_id"], r.data.tags["mmsearch.kind"]) for r in runs)
    trials = {"a": 3, "b": 2}
    assert kinds == [(name, kind) for name in "ab" for kind in ("study", *["trial"] * trials[name])]
    assert {run.info.status for run in runs} == {"FINISHED"}
