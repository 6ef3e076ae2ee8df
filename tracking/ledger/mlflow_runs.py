"""Looks at a test split in MLflow: a run each, in the experiment of the study that looked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mmsearch.errors import MMSearchError
from mmsearch.tracking.ledger.record import LATER_NUMBERS, NUMBERS, Look
from mmsearch.tracking.mlflow.client import search_runs
from mmsearch.tracking.mlflow.notes import metric, note_tag

if TYPE_CHECKING:
    from mlflow.entities import Run

    from mmsearch.tracking.mlflow.tracker import StudyTracker

_EXPERIMENTS = 100
"""Experiments whose runs are asked for in one call."""


class FinalRuns:
    """The final-test runs of an MLflow store. Every call may raise MLflow's errors."""

    def __init__(self, tracker: StudyTracker) -> None:
        """Look at them through a study's tracker, which is open."""
        self._tracker = tracker

    def read(self, split: str) -> list[Look]:
        """Give the looks at a split, of whatever study; deleted runs still tell."""
        return [_look(run) for run in self._search(f"tags.mmsearch.split = '{split}'")]

    def run_id(self, look: Look) -> str:
        """Find the run of a look that has been shown."""
        return str(self._search(f"tags.mmsearch.look_id = '{look.id}'")[0].info.run_id)

    def write(self, look: Look, *, n_words: int, note: str) -> None:
        """Show a look of this study, and close its run once there is a result.

        Args:
            look: the claim, with its result if there is one.
            n_words: words in the test split.
            note: Markdown.
        """
        from mlflow.entities import Param, RunTag  # noqa: PLC0415 (slow; see store.connect)

        client = self._tracker.client
        found = self._search(f"tags.mmsearch.look_id = '{look.id}'")
        run = found[0] if found else self._create(look)
        run_id = run.info.run_id
        for double in found[1:]:  # a slow server makes one of each call that timed out
            client.delete_run(double.info.run_id)
        if run.info.status == "FINISHED":
            return
        if run.info.lifecycle_stage == "deleted":
            client.restore_run(run_id)
        if not (run.inputs and run.inputs.dataset_inputs):
            try:
                self._log_test_split(run_id, look.split, n_words)
            except Exception:  # noqa: BLE001 (another process may just have made the data set)
                self._log_test_split(run_id, look.split, n_words)
        tags = note_tag(note)
        metrics, params = [], []
        if look.result is not None:
            tags |= {
                "mmsearch.look": _json(look),
                "mmsearch.state": "COMPLETE",
            }
            metrics = [
                metric(name, look.result[name], look.result["tested_ms"], 0)
                for name in (*NUMBERS, *LATER_NUMBERS)
                if name != "tested_ms" and name in look.result
            ]
            params = [Param(key, str(value)) for key, value in look.result["spec"].items()]
        client.log_batch(
            run_id,
            metrics=metrics,
            params=params,
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        if look.result is not None:
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

    def _log_test_split(self, run_id: str, split: str, n_words: int) -> None:
        """Name the words by their fingerprint, and count them; none of them is stored."""
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 (likewise)

        dataset = Dataset(
            name="test",
            digest=split[:36],
            source_type="local",
            source=json.dumps({"split_fingerprint": split}),
            profile=json.dumps({"num_rows": n_words}),
        )
        context = InputTag("mlflow.data.context", "test")
        self._tracker.client.log_inputs(run_id, [DatasetInput(dataset, [context])])

    def _search(self, condition: str) -> list[Run]:
        """Find final-test runs in every study's experiment, oldest first."""
        from mlflow.entities import ViewType  # noqa: PLC0415 (likewise)

        client = self._tracker.client
        experiments: list[str] = []
        token: str | None = None
        while True:
            page = client.search_experiments(
                view_type=ViewType.ALL, filter_string="name LIKE 'mmsearch/%'", page_token=token
            )
            experiments += [experiment.experiment_id for experiment in page]
            token = page.token
            if not token:
                break
        condition = f"tags.mmsearch.kind = 'final-test' and {condition}"
        found: list[Run] = []
        for start in range(0, len(experiments), _EXPERIMENTS):
            some = experiments[start : start + _EXPERIMENTS]
            found += search_runs(client, some, condition, has_deleted=True)
        return found


def _json(look: Look) -> str:
    # As it is, and not in escapes: MLflow cuts a tag at 8,000 characters.
    return json.dumps(look.to_json(), allow_nan=False, ensure_ascii=False)


def _look(run: Run) -> Look:
    """Read a look from its run.

    Raises:
        MMSearchError: the run's tag holds none.
    """
    try:
        return Look.from_json(json.loads(run.data.tags["mmsearch.look"]))
    except (KeyError, ValueError, RecursionError) as error:
        raise MMSearchError(
            f"MLflow's run {run.info.run_id} is a final test, and its tag mmsearch.look cannot be "
            f"read: {error}"
        ) from error
