"""The runs of a study in MLflow: what they have in common, and what the run of a trial holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.records import TrialState
from mmsearch.tracking.mlflow import metrics, notes
from mmsearch.tracking.mlflow.charts import IMAGE_KEY
from mmsearch.tracking.mlflow.client import DataSet, log_datasets, log_metrics, log_params, set_tags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord

_STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
}
"""MLflow's status of a run by the state of its trial."""
_EXCLUDED = "mmsearch.excluded"
"""Tag with the reason why a trial is excluded from the choice of a model."""
_OPEN = ("RUNNING", "SCHEDULED")
"""Status of a run whose trial has not ended: one that is trained, one that waits for a command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """What all runs of one study have in common."""

    name: str
    """Name of the study."""
    options: str
    """Options that select the study in a command, quoted for a shell."""
    id: str
    """Id of the study, which tells it from one of the same name in another workspace."""
    tags: Mapping[str, str]
    """Fingerprints and versions, set on the parent run and each child run."""
    params: Mapping[str, Any]
    """Settings of the study, logged to the parent run."""
    description: str
    """Note on the experiment and the parent run, in Markdown."""
    words: str
    """Description of the corpus, in a few words."""
    characters: Sequence[str]
    """Characters that the rows of an embedding stand for."""
    datasets: Sequence[DataSet] = ()
    """The words that each trial was trained and scored on."""


@dataclass(slots=True)
class TrialRun:
    """What the run of a trial holds; each method may raise MLflow's errors."""

    client: MlflowClient = field(repr=False)
    facts: StudyFacts
    run_id: str
    number: int | None
    """Number in the journal; None where a person has removed it."""
    started_ms: int
    steps: set[int] | None
    """Steps of the segments that it holds; None where MLflow has to be asked."""
    has_params: bool = False
    is_scheduled: bool = False
    is_closed: bool = False
    excluded: str = ""
    """Why the trial is excluded from the choice, as far as the run says."""

    @classmethod
    def of(cls, client: MlflowClient, facts: StudyFacts, run: Run, number: int | None) -> TrialRun:
        """Return what a run of the store holds."""
        return cls(
            client,
            facts,
            run.info.run_id,
            number=number,
            started_ms=run.info.start_time,
            steps=None,
            has_params=bool(run.data.params),
            is_scheduled=run.info.status == "SCHEDULED",
            is_closed=run.info.status not in _OPEN,
            excluded=run.data.tags.get(_EXCLUDED, ""),
        )

    def is_whole(self, record: TrialRecord) -> bool:
        """Return whether nothing is missing in the run of a trial that has ended."""
        return self.is_closed and self.excluded == record.excluded

    def show(self, record: TrialRecord, journal: Journal, *, is_idle: bool) -> None:
        """Log what the run lacks; for the arguments see `StudyTracker.show_trial`."""
        if self.excluded != record.excluded:
            set_tags(self.client, self.run_id, {_EXCLUDED: record.excluded})
            self.excluded = record.excluded
        if self.is_closed:
            return
        if not self.has_params:
            # The UI's parallel coordinates have no log axis.
            log10_rate = math.log10(record.spec.learning_rate)
            params = {**record.spec.to_json(), "log10_learning_rate": log10_rate}
            log_datasets(self.client, self.run_id, self.facts.datasets)
            log_params(self.client, self.run_id, params)
            self.has_params = True
        if self.steps is None:
            self.steps = self._find_segments()
        fresh = [segment for segment in record.curve if segment.step not in self.steps]
        log_metrics(self.client, self.run_id, metrics.curve_metrics(fresh))
        self.steps.update(segment.step for segment in fresh)
        if record.outcome is not None:
            self._close(record, journal)
        elif self.is_scheduled != is_idle:
            state, status = ("INTERRUPTED", "SCHEDULED") if is_idle else ("RUNNING", "RUNNING")
            set_tags(self.client, self.run_id, {"mmsearch.state": state})
            self.client.update_run(self.run_id, status=status)
            self.is_scheduled = is_idle

    def _close(self, record: TrialRecord, journal: Journal) -> None:
        """Log the outcome of a trial, and end its run."""
        assert record.outcome is not None  # noqa: S101 (the trial has ended; for the type checker)
        facts, run_id = self.facts, self.run_id
        log_metrics(self.client, run_id, metrics.final_metrics(record, len(facts.characters)))
        if record.is_complete:
            self._log_artifacts(record, journal)
        elif record.state == TrialState.FAIL:
            error = journal.trial_folder(record.number) / "error.txt"
            if error.exists():
                self.client.log_artifact(run_id, str(error))
        note = notes.trial_note(record, facts.name, facts.options, facts.words, run_id)
        tags = {"mmsearch.state": str(record.state), **notes.note_tag(note)}
        if record.outcome.reason:
            tags["mmsearch.reason"] = record.outcome.reason[:5000]
        set_tags(self.client, run_id, tags)
        self.client.set_terminated(run_id, _STATUS[record.state], end_time=record.outcome.ended_ms)
        self.is_closed = True

    def _find_segments(self) -> set[int]:
        """Return the steps of the segments that the run holds; its dev loss was logged last.

        A segment that was trained again, after its weights were lost, ended at another time, so its
        points must not be sent again beside the first ones.
        """
        return {point.step for point in self.client.get_metric_history(self.run_id, "loss/dev")}

    def _log_artifacts(self, record: TrialRecord, journal: Journal) -> None:
        from mmsearch.tracking.figures.build import trial_figures  # noqa: PLC0415 (matplotlib is slow)

        folder = journal.trial_folder(record.number)
        weights = journal.read_weights(record)
        for name in ("weights.safetensors", "spec.json"):
            self.client.log_artifact(self.run_id, str(folder / name), "model")
        if (folder / "samples.txt").exists():
            self.client.log_artifact(self.run_id, str(folder / "samples.txt"))
        with files.scratch_folder() as scratch:
            paths = trial_figures(record, weights, self.facts.characters, scratch)
            for path in paths:
                self.client.log_artifact(self.run_id, str(path), "figures")
            self._log_image(record, paths[-1])

    def _log_image(self, record: TrialRecord, embedding: Path) -> None:
        """Log the embedding once more, as one of the images that MLflow's charts compare."""
        from PIL import Image  # noqa: PLC0415 (slow; see client.connect)

        if self.client.list_artifacts(self.run_id, "images"):  # a second would be shown beside it
            return
        assert record.outcome is not None  # noqa: S101 (the trial has ended; for the type checker)
        with Image.open(embedding) as image:
            self.client.log_image(
                self.run_id,
                image.convert("RGB"),
                key=IMAGE_KEY,
                step=0,
                timestamp=record.outcome.ended_ms,
                synchronous=True,
            )
