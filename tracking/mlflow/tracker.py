"""The journal shown in MLflow: an experiment and a parent run a study, a child run a training.

Everything here is a projection: shown twice, it is there once. Runs are found by their tags, a
batch of equal points counts once in MLflow, and a run is closed last, so that a closed run is a
whole one.
"""

from __future__ import annotations

import logging
import math
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.journal.records import TrialState, best_trial, counts_by_state
from mmsearch.tracking.mlflow import notes
from mmsearch.tracking.mlflow.client import (
    PREFIX,
    create,
    first_line,
    log_metrics,
    open_experiment,
    search_runs,
)
from mmsearch.tracking.mlflow.curve_axes import widened
from mmsearch.tracking.mlflow.saved_view import IMAGE_KEY, SCORE, read_scale, view_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.mlflow.notes import StudySummary

_logger = logging.getLogger(__name__)

STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
}
"""MLflow's word for a trial's state."""
_OPEN = ("RUNNING", "SCHEDULED")
"""MLflow's words for a trial that has not ended; the second one's waits for the next command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """What all runs of one study share."""

    name: str
    id: str
    """Tells it from a study of the same name in another workspace."""
    tags: Mapping[str, str]
    """Fingerprints and versions, for the parent and each child."""
    params: Mapping[str, Any]
    """The study's settings, for the parent."""
    description: str
    """Markdown, for the experiment and the parent."""
    words: str
    """What it trains on, in a few words."""
    characters: Sequence[str]
    """What the rows of an embedding stand for."""

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return PREFIX + self.name


@dataclass(slots=True)
class _Shown:
    """How much of a trial its run holds."""

    run_id: str
    steps: set[int] | None
    """Ends of the segments that it holds; None to ask MLflow."""
    has_params: bool = False
    is_scheduled: bool = False
    """Whether it is shown as interrupted."""
    is_closed: bool = False


@dataclass(slots=True)
class StudyTracker:
    """Shows one study in one MLflow store. Not thread-safe; every call may raise MLflow's errors.

    After an error, `open` it again before the next call: the call may or may not have arrived.
    """

    uri: str
    facts: StudyFacts
    kind: str = "trial"
    """Of the journal that it shows: `trial` or `confirm`."""
    artifacts: Path | None = None
    """Where artifacts of a local store lie; None to leave it to the server."""
    creating: Callable[[], AbstractContextManager[None]] = nullcontext
    """Held while a local store is created, which MLflow does not do safely by itself."""
    experiment_id: str = field(init=False, default="")
    parent_id: str = field(init=False, default="")
    client: MlflowClient = field(init=False, repr=False)
    _shown: dict[int, _Shown] = field(init=False, repr=False, default_factory=dict)
    _may_have_doubles: bool = field(init=False, repr=False, default=True)
    _view: str | None = field(init=False, repr=False, default=None)
    """The saved view that the experiment holds, as far as we know."""

    def open(self) -> None:
        """Connect, and find or make the experiment and the parent run."""
        with self.creating():
            self.client = create(self.uri)
            experiment = open_experiment(self.client, self.facts.experiment, self.artifacts)
            self.experiment_id = experiment.experiment_id
        key, _ = view_tag(self.facts.id, self.kind)
        self._view = experiment.tags.get(key)
        self._fit_view([])
        children = self._search(self.kind)
        self._add_scores(children)
        self._open_parent({run.data.tags.get("mlflow.parentRunId") for run in children})
        self._shown = {}
        # Of two runs of one trial (see delete_doubles), the one that is whole.
        for run in sorted(children, key=lambda run: run.info.status in _OPEN):
            self._shown.setdefault(
                int(run.data.tags[self._number_tag]),
                _Shown(
                    run.info.run_id,
                    steps=None,
                    has_params=bool(run.data.params),
                    is_scheduled=run.info.status == "SCHEDULED",
                    is_closed=run.info.status not in _OPEN,
                ),
            )
        # SQLite has carried a call out or not by the time it ends: what is there, we have seen.
        is_local = self.uri.startswith("sqlite:")
        self._may_have_doubles = not is_local or len(children) > len(self._shown)

    @property
    def title(self) -> str:
        """What a person calls it."""
        return "MLflow"

    def lacking(
        self, records: Iterable[TrialRecord], unreadable: Collection[int] = ()
    ) -> list[int]:
        """Return the numbers of the trials that are not whole in MLflow yet.

        Args:
            records: the journal's trials.
            unreadable: numbers of those whose files are damaged; their runs stay as they are.
        """
        del unreadable
        closed = {number for number, shown in self._shown.items() if shown.is_closed}
        idle = {number for number, shown in self._shown.items() if shown.is_scheduled}
        return [r.number for r in records if r.number not in (closed if r.outcome else idle)]

    def show_trial(self, record: TrialRecord, journal: Journal, *, is_idle: bool = False) -> None:
        """Bring a trial's run up to its record; artifacts and the end come with its outcome.

        Args:
            record: the trial.
            journal: where its files are.
            is_idle: whether nobody trains it: where it has not ended, its status is SCHEDULED, as
                it waits for the next command.
        """
        shown = self._shown.get(record.number) or self._create_child(record)
        if shown.is_closed:
            return
        if not shown.has_params:
            # The UI's parallel coordinates have no log axis.
            log10_rate = math.log10(record.spec.learning_rate)
            self._log_params(
                shown.run_id, {**record.spec.to_json(), "log10_learning_rate": log10_rate}
            )
            shown.has_params = True
        if shown.steps is None:
            shown.steps = self._find_segments(shown.run_id)
        fresh = [segment for segment in record.curve if segment.step not in shown.steps]
        log_metrics(self.client, shown.run_id, notes.curve_metrics(fresh))
        shown.steps.update(segment.step for segment in fresh)
        if record.outcome is None:
            if shown.is_scheduled != is_idle:
                state, status = ("INTERRUPTED", "SCHEDULED") if is_idle else ("RUNNING", "RUNNING")
                self._set_tags(shown.run_id, {"mmsearch.state": state})
                self.client.update_run(shown.run_id, status=status)
                shown.is_scheduled = is_idle
            return
        metrics = notes.final_metrics(record, len(self.facts.characters))
        log_metrics(self.client, shown.run_id, metrics)
        if record.is_complete:
            self._log_artifacts(shown.run_id, record, journal)
        elif record.state == TrialState.FAIL:
            error = journal.trial_folder(record.number) / "error.txt"
            if error.exists():
                self.client.log_artifact(shown.run_id, str(error))
        note = notes.trial_note(record, self.facts.name, self.facts.words, shown.run_id)
        tags = {"mmsearch.state": record.state, **notes.note_tag(note)}
        if record.outcome.reason:
            tags["mmsearch.reason"] = record.outcome.reason[:5000]
        self._set_tags(shown.run_id, tags)
        self.client.set_terminated(
            shown.run_id, STATUS[record.state], end_time=record.outcome.ended_ms
        )
        shown.is_closed = True
        self._fit_view([record])

    def close(self) -> None:
        """Do nothing: MLflow's client keeps connections of its own."""

    def show_running(self) -> None:
        """Show the study as being searched."""
        self.client.update_run(self.parent_id, status="RUNNING")
        self._set_tags(self.parent_id, {"mmsearch.state": "RUNNING"})

    def show_study(self, summary: StudySummary) -> None:
        """Bring the parent run up to where the study stands, and close it."""
        self.delete_doubles()
        if self.kind == "trial":
            self._fit_view(summary.trials)
        counts = counts_by_state(summary.trials)
        best = best_trial(summary.trials)
        metrics: dict[str, float] = {
            f"n_{state.lower()}": counts[state]
            for state in TrialState
            if state != TrialState.RUNNING
        }
        tags = {"mmsearch.state": "COMPLETE" if summary.is_done else "INTERRUPTED"}
        metrics |= summary.metrics
        losses = notes.baseline_metrics(summary.baselines)
        metrics |= {f"baseline/{name}": loss for name, loss in losses.items()}
        tags |= summary.tags
        note = [*reversed(summary.sections)]  # what came last is the result
        if best is not None and best.dev_loss is not None:
            tags["mmsearch.best_trial"] = str(best.number)
            metrics["best_dev_loss"] = best.dev_loss
            note += [notes.best_note(best, counts, summary.baselines), *summary.remarks]
        now_ms = max((t.outcome.ended_ms for t in summary.trials if t.outcome), default=0)
        log_metrics(
            self.client,
            self.parent_id,
            [notes.metric(key, value, now_ms, 0) for key, value in metrics.items()],
        )
        note.append(self.facts.description)
        with tempfile.TemporaryDirectory() as folder:
            for path in notes.study_figures(summary, self.facts.name, Path(folder)):
                self.client.log_artifact(self.parent_id, str(path), "figures")
                note.append(notes.inline(path.stem, self.parent_id))
        shown = notes.note_tag("\n\n".join(note))
        self._set_tags(self.parent_id, tags | shown)
        for key, value in shown.items():
            self.client.set_experiment_tag(self.experiment_id, key, value)
        status = "FINISHED" if summary.is_done else "KILLED"
        self.client.set_terminated(self.parent_id, status)

    @property
    def _number_tag(self) -> str:
        """The tag that holds a run's number in the journal."""
        return f"mmsearch.{self.kind}"

    def _search(self, kind: str) -> list[Run]:
        """Find all runs of one kind, oldest first."""
        condition = f"tags.mmsearch.kind = '{kind}' and tags.mmsearch.study_id = '{self.facts.id}'"
        return search_runs(self.client, [self.experiment_id], condition)

    def _fit_view(self, records: Iterable[TrialRecord]) -> None:
        """Write the saved view, with axes that show the curves of `records` and what they showed.

        The axes only widen, so a view written by another process at the same time lacks at most
        the trials that this one is about to show.
        """
        scale = widened(read_scale(self._view), records, len(self.facts.characters))
        key, view = view_tag(self.facts.id, self.kind, scale)
        if view != self._view:
            self._set_view(key, view)
            self._view = view

    def _set_view(self, key: str, view: str) -> None:
        """Write the saved view, whose format is MLflow's own; warn where MLflow does not take it.

        Links then open a page's usual columns.
        """
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (slow; see store.connect)

        try:
            self.client.set_experiment_tag(self.experiment_id, key, view)
        except MlflowException as error:
            if error.get_http_status_code() != HTTPStatus.BAD_REQUEST:  # type: ignore[no-untyped-call]
                raise  # a store that is away, and not one that refuses
            _logger.warning("MLflow does not take the saved view: %s", first_line(error))

    def _add_scores(self, runs: Iterable[Run]) -> None:
        """Add the score that the charts read to runs that version 0.1 has closed."""
        limit = math.log(len(self.facts.characters))
        for run in runs:
            loss = run.data.metrics.get("dev_loss", math.inf)
            if run.info.status == "FINISHED" and SCORE not in run.data.metrics and loss <= limit:
                point = notes.metric(SCORE, loss, run.info.end_time, 0)
                log_metrics(self.client, run.info.run_id, [point])

    def _open_parent(self, in_use: set[str | None]) -> None:
        """Find the parent run, the one that children name if there are two, or make it."""
        parents = sorted(self._search("study"), key=lambda run: run.info.run_id not in in_use)
        self.parent_id = parents[0].info.run_id if parents else self._create_parent()
        held = parents[0].data.params if parents else {}
        lacking = {key: value for key, value in self.facts.params.items() if key not in held}
        if lacking:
            self._log_params(self.parent_id, lacking)

    def delete_doubles(self) -> None:
        """Delete the second run of a trial or of the study.

        MLflow's client repeats a call that timed out, and we open again and look: a server that
        was only slow makes a run of each of the calls, the last of them after we have looked.
        Of the study even a local store may hold two, where two processes open it at once.
        """
        in_use = {self.parent_id, *(shown.run_id for shown in self._shown.values())}
        known = {str(number) for number in self._shown}
        children = self._search(self.kind) if self._may_have_doubles else []  # dear: all trials
        doubles = [
            *self._search("study"),
            *(run for run in children if run.data.tags[self._number_tag] in known),
        ]
        for run in doubles:
            if run.info.run_id not in in_use:
                self.client.delete_run(run.info.run_id)

    def _create_parent(self) -> str:
        tags = {
            **self.facts.tags,
            "mmsearch.kind": "study",
            "mmsearch.study_id": self.facts.id,
            "mmsearch.study": self.facts.name,
            "mmsearch.state": "RUNNING",
            **notes.note_tag(self.facts.description),
        }
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=self.facts.name)
        return str(run.info.run_id)

    def _create_child(self, record: TrialRecord) -> _Shown:
        tags = {
            **self.facts.tags,
            "mmsearch.kind": self.kind,
            "mmsearch.study_id": self.facts.id,
            "mmsearch.study": self.facts.name,
            "mmsearch.trial": str(record.facts.get("trial", record.number)),
            self._number_tag: str(record.number),
            "mmsearch.state": "RUNNING",
            "mmsearch.seed": str(record.spec.seed),
            "mlflow.parentRunId": self.parent_id,
        }
        run = self.client.create_run(
            self.experiment_id,
            start_time=record.facts["started_ms"],
            tags=tags,
            run_name=record.name,
        )
        shown = self._shown[record.number] = _Shown(run.info.run_id, steps=set())
        return shown

    def _find_segments(self, run_id: str) -> set[int]:
        """Find the segments whose points a run holds; the dev loss of each was its last.

        Sent again they would be there once, but a segment that was trained again, after its
        weights were lost, ended at another time: its points would stand beside the first ones.
        """
        return {point.step for point in self.client.get_metric_history(run_id, "loss/dev")}

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 (slow; see store.connect)

        self.client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag  # noqa: PLC0415 (slow; see store.connect)

        self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _log_artifacts(self, run_id: str, record: TrialRecord, journal: Journal) -> None:
        folder = journal.trial_folder(record.number)
        weights = journal.read_weights(record)
        for name in ("weights.safetensors", "spec.json"):
            self.client.log_artifact(run_id, str(folder / name), "model")
        if (folder / "samples.txt").exists():
            self.client.log_artifact(run_id, str(folder / "samples.txt"))
        with tempfile.TemporaryDirectory() as scratch:
            paths = notes.trial_figures(record, weights, self.facts.characters, Path(scratch))
            for path in paths:
                self.client.log_artifact(run_id, str(path), "figures")
            self._log_image(run_id, record, paths[-1])

    def _log_image(self, run_id: str, record: TrialRecord, embedding: Path) -> None:
        """Log the embedding once more, as one of the images that MLflow's charts compare."""
        from PIL import Image  # noqa: PLC0415 (slow; see store.connect)

        if self.client.list_artifacts(run_id, "images"):  # a double would stand beside it
            return
        assert record.outcome is not None  # noqa: S101 (the caller's condition, for the type checker)
        with Image.open(embedding) as image:
            self.client.log_image(
                run_id,
                image.convert("RGB"),
                key=IMAGE_KEY,
                step=0,
                timestamp=record.outcome.ended_ms,
                synchronous=True,
            )
