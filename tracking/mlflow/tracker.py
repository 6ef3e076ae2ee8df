"""A study in MLflow: an experiment and a parent run per study, a child run per trial.

Runs are found by their tags, equal points of a metric count once in MLflow, and a run is ended
last, so that a run that has ended is complete. Sending a trial twice therefore changes nothing.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from mmsearch.counts import counted
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.records import TrialState, best_trial, counts_by_state
from mmsearch.tracking.mlflow import metrics, notes
from mmsearch.tracking.mlflow.charts import read_scale, view_tag
from mmsearch.tracking.mlflow.client import (
    create,
    first_line,
    log_metrics,
    log_params,
    open_experiment,
    search_runs,
    set_tags,
)
from mmsearch.tracking.mlflow.curve_axes import widened
from mmsearch.tracking.mlflow.runs import StudyFacts, TrialRun

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.study_summary import StudySummary

_logger = logging.getLogger(__name__)

_PARENT = "mlflow.parentRunId"
"""Tag with the run that a run is nested under."""


@dataclass(slots=True)
class StudyTracker:
    """A view (`view.View`) of a study in an MLflow store; not thread-safe.

    Every method may raise MLflow's errors. After one, call `open` before any other method: the
    failed call may or may not have been carried out.
    """

    uri: str
    """Tracking URI, with its password."""
    facts: StudyFacts
    kind: str = "trial"
    """Kind of the journal that is shown: `trial`, `confirm` or `extend`."""
    artifacts: Path | None = None
    """Folder for the artifacts of a local store; None to leave it to the server."""
    creating: Callable[[], AbstractContextManager[None]] = nullcontext
    """Lock to hold while a local store is created, which MLflow does not do safely."""
    mended: list[str] = field(init=False, default_factory=list)
    """What people had changed in the store and was put right, a line each."""
    experiment_id: str = field(init=False, default="")
    parent_id: str = field(init=False, default="")
    client: MlflowClient = field(init=False, repr=False)
    _found: list[TrialRun] = field(init=False, repr=False, default_factory=list)
    """What the runs held that `open` found, the ended ones first."""
    _children: dict[int, TrialRun] = field(init=False, repr=False, default_factory=dict)
    _may_have_doubles: bool = field(init=False, repr=False, default=True)
    _view: str | None = field(init=False, repr=False, default=None)
    """The saved view that the experiment holds, as far as is known."""

    @property
    def title(self) -> str:
        """Name of the view in messages."""
        return "MLflow"

    def open(self) -> None:
        """Connect, and find or create the experiment and the parent run."""
        with self.creating():
            self.client = create(self.uri)
            experiment = open_experiment(
                self.client,
                self.facts.name,
                self.artifacts,
                self.facts.id,
                say=self.mended.append,
            )
            self.experiment_id = experiment.experiment_id
        key, _ = view_tag(self.facts.id, self.kind)
        self._view = experiment.tags.get(key)
        self._fit_view([])
        children = self._search(self.kind)
        self._open_parent({run.data.tags.get(_PARENT) for run in children})
        strays = [run for run in children if run.data.tags.get(_PARENT) != self.parent_id]
        for run in strays:
            self._set_tags(run.info.run_id, {_PARENT: self.parent_id})
        if strays:
            self.mended.append(f"nested {counted(len(strays), 'run')} under the study's own again")
        found = [TrialRun.of(self.client, self.facts, run, self._number(run)) for run in children]
        self._found = sorted(found, key=lambda child: not child.is_closed)
        self._assign()

    def _assign(self) -> None:
        """Assign to each trial its run; of two (see delete_doubles), the one that has ended."""
        self._children = {}
        for child in self._found:
            if child.number is not None:
                self._children.setdefault(child.number, child)
        # A call to SQLite has been carried out or not by the time it ends.
        is_local = self.uri.startswith("sqlite:")
        self._may_have_doubles = not is_local or len(self._found) > len(self._children)

    def _renumber(self, records: Iterable[TrialRecord]) -> None:
        """Correct numbers that a person has changed: a run began when its trial did."""
        numbers: dict[int, list[int]] = {}
        for record in records:
            numbers.setdefault(record.facts["started_ms"], []).append(record.number)
        n_changed = 0
        for child in self._found:
            own = numbers.get(child.started_ms, [])
            if child.number not in own and len(own) == 1:
                (child.number,) = own
                self._set_tags(child.run_id, {self._number_tag: str(child.number)})
                n_changed += 1
        if n_changed:
            self._assign()
            runs = counted(n_changed, "run")
            self.mended.append(f"gave {runs} the number of the trial that began when they did")

    def close(self) -> None:
        """Do nothing: MLflow's client keeps connections of its own."""

    def lacking(
        self, records: Sequence[TrialRecord], unreadable: Collection[int] = ()
    ) -> list[int]:
        """Return the numbers of the trials whose runs are missing or incomplete.

        Args:
            records: the trials of the journal.
            unreadable: numbers of trials whose files are damaged; their runs are left alone.
        """
        del unreadable
        self._renumber(records)
        runs = self._children
        closed = {r.number for r in records if r.number in runs and runs[r.number].is_whole(r)}
        idle = {number for number, child in runs.items() if child.is_scheduled}
        return [r.number for r in records if r.number not in (closed if r.outcome else idle)]

    def show_running(self) -> None:
        """Set the status of the parent run to RUNNING."""
        self.client.update_run(self.parent_id, status="RUNNING")
        self._set_tags(self.parent_id, {"mmsearch.state": "RUNNING"})

    def show_trial(self, record: TrialRecord, journal: Journal, *, is_idle: bool = False) -> None:
        """Log what a trial's run lacks; artifacts and the run's end come with the outcome.

        Args:
            record: the trial.
            journal: where its files are.
            is_idle: whether no process trains it, so that a trial that has not ended is SCHEDULED.
        """
        child = self._children.get(record.number) or self._create_child(record)
        was_closed = child.is_closed
        child.show(record, journal, is_idle=is_idle)
        if child.is_closed and not was_closed:
            self._fit_view([record])

    def show_study(self, summary: StudySummary) -> None:
        """Log where the study stands to the parent run, and end the run."""
        self.delete_doubles()
        if self.kind == "trial":
            self._fit_view(summary.trials)
        counts = counts_by_state(summary.trials)
        best = best_trial(summary.trials)
        tags = {"mmsearch.state": "COMPLETE" if summary.is_done else "INTERRUPTED", **summary.tags}
        values: dict[str, float] = {
            f"n_{state.lower()}": counts[state]
            for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        }
        values |= summary.metrics
        losses = summary.baselines.losses if summary.baselines else {}
        values |= {f"baseline/{name}": loss for name, loss in losses.items()}
        note = [*reversed(summary.sections)]  # the latest first
        if best is not None and best.dev_loss is not None:
            tags["mmsearch.best_trial"] = str(best.number)
            if best.dev_loss < metrics.MAX_LOSS:
                values["best_dev_loss"] = best.dev_loss
            note += [notes.best_note(best, counts, summary.baselines), *summary.remarks]
        now_ms = max((t.outcome.ended_ms for t in summary.trials if t.outcome), default=0)
        points = [metrics.metric(key, value, now_ms, 0) for key, value in values.items()]
        log_metrics(self.client, self.parent_id, points)
        note += [self.facts.description, *self._log_study_figures(summary)]
        note_tag = notes.note_tag("\n\n".join(note))
        self._set_tags(self.parent_id, tags | note_tag)
        for key, value in note_tag.items():
            self.client.set_experiment_tag(self.experiment_id, key, value)
        self.client.set_terminated(self.parent_id, "FINISHED" if summary.is_done else "KILLED")

    def _log_study_figures(self, summary: StudySummary) -> list[str]:
        """Log the figures of the study; return the Markdown that shows them."""
        from mmsearch.tracking.figures.build import study_figures  # noqa: PLC0415 (matplotlib is slow)

        with files.scratch_folder() as folder:
            paths = study_figures(summary, self.facts.name, folder)
            for path in paths:
                self.client.log_artifact(self.parent_id, str(path), "figures")
        return [notes.figure_link(path.stem, self.parent_id) for path in paths]

    @property
    def _number_tag(self) -> str:
        """The tag that holds a run's number in the journal."""
        return f"mmsearch.{self.kind}"

    def _number(self, run: Run) -> int | None:
        """Return the number of a run in the journal; None where a person has removed it."""
        number = run.data.tags.get(self._number_tag, "")
        return int(number) if number.isdecimal() else None

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        set_tags(self.client, run_id, tags)

    def _search(self, kind: str, *, has_deleted: bool = False) -> list[Run]:
        """Return all runs of one kind, oldest first."""
        condition = f"tags.mmsearch.kind = '{kind}' and tags.mmsearch.study_id = '{self.facts.id}'"
        return search_runs(self.client, [self.experiment_id], condition, has_deleted=has_deleted)

    def _fit_view(self, records: Iterable[TrialRecord]) -> None:
        """Write the saved view, with its axes extended to show the curves of `records`.

        The axes are never narrowed, so a view written by another process at the same time lacks at
        most the trials that this process is about to show. The format is MLflow's own: where MLflow
        refuses the view, links open its usual columns.
        """
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (slow; see client.connect)

        scale = widened(read_scale(self._view), records, len(self.facts.characters))
        key, view = view_tag(self.facts.id, self.kind, scale)
        if view == self._view:
            return
        try:
            self.client.set_experiment_tag(self.experiment_id, key, view)
        except MlflowException as error:
            if error.get_http_status_code() != HTTPStatus.BAD_REQUEST:  # type: ignore[no-untyped-call]
                raise  # the store does not answer
            _logger.warning("MLflow does not accept the saved view: %s", first_line(error))
        self._view = view

    def _open_parent(self, in_use: set[str | None]) -> None:
        """Find the parent run, or of two the one that child runs name, or create it.

        One that was deleted is restored, as links lead to it.
        """
        parents = self._search("study") or self._search("study", has_deleted=True)
        parents.sort(key=lambda run: run.info.run_id not in in_use)
        self.parent_id = parents[0].info.run_id if parents else self._create_parent()
        if parents and parents[0].info.lifecycle_stage == "deleted":
            self.client.restore_run(self.parent_id)
            self.mended.append("restored the study's own run, which had been deleted")
        held = parents[0].data.params if parents else {}
        lacking = {key: value for key, value in self.facts.params.items() if key not in held}
        if lacking:
            log_params(self.client, self.parent_id, lacking)

    def delete_doubles(self) -> None:
        """Delete the second run of a trial or of the study.

        A run whose number a person has removed, and `lacking` could not tell, is one, too: its
        trial has been sent again.
        MLflow's client repeats a call that timed out, and a server that was only slow creates a run
        for each call, perhaps after `open` has looked. Two processes that open a local store at the
        same time may both create the parent run.
        """
        in_use = {self.parent_id, *(child.run_id for child in self._children.values())}
        known = {None, *self._children}
        children = self._search(self.kind) if self._may_have_doubles else []  # expensive: all runs
        doubles = [
            *self._search("study"),
            *(run for run in children if self._number(run) in known),
        ]
        doubles = [run for run in doubles if run.info.run_id not in in_use]
        for run in doubles:
            self.client.delete_run(run.info.run_id)
        if doubles:
            self.mended.append(
                f"deleted {counted(len(doubles), 'second run')} of trials or of the study"
            )

    @property
    def _shared_tags(self) -> dict[str, str]:
        return {
            **self.facts.tags,
            "mmsearch.study_id": self.facts.id,
            "mmsearch.study": self.facts.name,
            "mmsearch.state": "RUNNING",
        }

    def _create_parent(self) -> str:
        tags = {
            **self._shared_tags,
            "mmsearch.kind": "study",
            **notes.note_tag(self.facts.description),
        }
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=self.facts.name)
        return str(run.info.run_id)

    def _create_child(self, record: TrialRecord) -> TrialRun:
        tags = {
            **self._shared_tags,
            "mmsearch.kind": self.kind,
            **self._trial_tags(record),
            self._number_tag: str(record.number),
            "mmsearch.seed": str(record.spec.seed),
            _PARENT: self.parent_id,
        }
        run = self.client.create_run(
            self.experiment_id,
            start_time=record.facts["started_ms"],
            tags=tags,
            run_name=record.name,
        )
        child = TrialRun.of(self.client, self.facts, run, record.number)
        child.steps = set()
        self._children[record.number] = child
        return child

    @staticmethod
    def _trial_tags(record: TrialRecord) -> dict[str, str]:
        """Return the tag that names the trial of the search that a run belongs to."""
        if record.is_extension:
            return {"mmsearch.parent_trial": str(record.facts["parent_trial"])}
        return {"mmsearch.trial": str(record.facts.get("trial", record.number))}
