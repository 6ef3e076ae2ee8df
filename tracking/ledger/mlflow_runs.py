"""The ledger in MLflow: a run per look, in the experiment of the study that looked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.tracking.ledger.record import LATER_NUMBERS, NUMBERS, Look
from mmsearch.tracking.mlflow.client import (
    DataSet,
    log_datasets,
    log_params,
    our_experiments,
    search_runs,
    set_tags,
)
from mmsearch.tracking.mlflow.metrics import metric
from mmsearch.tracking.mlflow.notes import note_tag

if TYPE_CHECKING:
    from mlflow.entities import Run

    from mmsearch.tracking.mlflow.tracker import StudyTracker

_EXPERIMENTS = 100
"""Experiments whose runs are searched in one call."""


class MLflowLedger:
    """The final-test runs of an MLflow store; every method may raise MLflow's errors."""

    def __init__(self, tracker: StudyTracker) -> None:
        """Read and write through the tracker of a study, which must be open."""
        self._tracker = tracker

    def read(self, split: str) -> list[Look]:
        """Return the looks at a split by any study; runs that were deleted count too."""
        return [_look(run) for run in self._search(f"tags.mmsearch.split = '{split}'")]

    def run_id(self, look: Look) -> str:
        """Return the run of a look that has been written."""
        return str(self._search(f"tags.mmsearch.look_id = '{look.id}'")[0].info.run_id)

    def write(self, look: Look, *, n_words: int, note: str) -> None:
        """Write a look of the tracker's study, and end its run if it has a result.

        Args:
            look: the look.
            n_words: number of words in the test split.
            note: the note on the run's page, in Markdown.
        """
        client = self._tracker.client
        found = self._search(f"tags.mmsearch.look_id = '{look.id}'")
        run = found[0] if found else self._create(look)
        run_id = run.info.run_id
        for double in found[1:]:  # from a call that timed out and was repeated
            client.delete_run(double.info.run_id)
        if run.data.tags.get("mlflow.parentRunId") != self._tracker.parent_id:
            set_tags(client, run_id, {"mlflow.parentRunId": self._tracker.parent_id})
        if run.info.status == "FINISHED":
            return
        if run.info.lifecycle_stage == "deleted":
            client.restore_run(run_id)
        if not (run.inputs and run.inputs.dataset_inputs):
            source = {"split_fingerprint": look.split}
            log_datasets(client, run_id, [DataSet("test", look.split, source, n_words)])
        set_tags(client, run_id, note_tag(note))
        if look.result is None:
            return
        metrics = [
            metric(name, look.result[name], look.result["tested_ms"], 0)
            for name in (*NUMBERS, *LATER_NUMBERS)
            if name != "tested_ms" and name in look.result
        ]
        client.log_batch(run_id, metrics=metrics)
        log_params(client, run_id, look.result["spec"])
        set_tags(client, run_id, {"mmsearch.look": _json(look), "mmsearch.state": "COMPLETE"})
        client.set_terminated(run_id, "FINISHED", end_time=look.result["tested_ms"])

    def _create(self, look: Look) -> Run:
        tracker = self._tracker
        tags = {
            **tracker.facts.tags,
            "mmsearch.kind": "final-test",
            "mmsearch.study": look.study,
            "mmsearch.study_id": look.study_id,
            "mmsearch.state": "RUNNING",
            "mmsearch.model": look.model,
            "mmsearch.model_sha256": look.model_sha256,
            "mmsearch.look": _json(look),
            "mmsearch.look_id": look.id,
            "mlflow.parentRunId": tracker.parent_id,
        }
        return tracker.client.create_run(
            tracker.experiment_id,
            start_time=look.claimed_ms,
            tags=tags,
            run_name=f"final test, {look}",
        )

    def _search(self, condition: str) -> list[Run]:
        """Return final-test runs of all studies, oldest first."""
        client = self._tracker.client
        experiments = [experiment.experiment_id for experiment in our_experiments(client)]
        condition = f"tags.mmsearch.kind = 'final-test' and {condition}"
        runs: list[Run] = []
        for start in range(0, len(experiments), _EXPERIMENTS):
            some = experiments[start : start + _EXPERIMENTS]
            runs += search_runs(client, some, condition, has_deleted=True)
        return runs


def _json(look: Look) -> str:
    # Not in escapes: MLflow cuts a tag at 8,000 characters.
    return json.dumps(look.to_json(), allow_nan=False, ensure_ascii=False)


def _look(run: Run) -> Look:
    """Read the look of a run.

    Raises:
        MMSearchError: the tag of the run is missing or damaged.
    """
    try:
        return Look.from_json(json.loads(run.data.tags["mmsearch.look"]))
    except (KeyError, ValueError, RecursionError) as error:
        raise MMSearchError(
            f"the tag mmsearch.look of MLflow's run {run.info.run_id}, a final test, cannot be "
            f"read: {error}"
        ) from error
