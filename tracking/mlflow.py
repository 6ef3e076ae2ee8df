"""The journal shown in MLflow: an experiment and a parent run a study, a child run a trial.

Everything here is a projection: shown twice, it is there once. Runs are found by their tags, a
batch of equal points counts once in MLflow, and a run is closed last, so that a closed run is a
whole one.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.errors import MMSearchError
from mmsearch.tracking.journal import best_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from mmsearch.tracking.journal import Journal, TrialRecord

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "RUNNING": "RUNNING"}
"""MLflow's word for a trial's state."""

HYPERPARAMETERS = ("embedding_dim", "hidden_width", "block_size", "learning_rate", "weight_decay")
"""In the order in which a person compares them."""

_BATCH = 1000
"""Metrics that MLflow takes in one call."""

_PAGE = 1000
"""Runs that MLflow is asked for in one call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFacts:
    """What all runs of one study share."""

    name: str
    tags: Mapping[str, str]
    """Fingerprints and versions, for the parent and each child."""
    params: Mapping[str, Any]
    """The study's settings, for the parent."""
    description: str
    """Markdown, for the experiment and the parent."""
    characters: Sequence[str]
    """What the rows of an embedding stand for."""

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return f"mmsearch/{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySummary:
    """Where a study stands, for the parent run."""

    trials: Sequence[TrialRecord]
    importances: Mapping[str, float]
    """Share of the variance of the dev loss that each hyperparameter explains."""
    log_axes: frozenset[str]
    """Hyperparameters that are searched on a log scale."""
    is_done: bool
    """Whether all trials that were asked for have finished."""


@dataclass(slots=True)
class _Shown:
    """How much of a trial its run holds."""

    run_id: str
    n_segments: int = 0
    has_params: bool = False
    is_closed: bool = False


@dataclass(slots=True)
class StudyTracker:
    """Shows one study in one MLflow store. Not thread-safe; every call may raise MLflow's errors.

    After an error, `open` it again before the next call: the call may or may not have arrived.
    """

    uri: str
    facts: StudyFacts
    artifacts: Path | None = None
    """Where artifacts of a local store lie; None to leave it to the server."""
    creating: Callable[[], AbstractContextManager[None]] = nullcontext
    """Held while a local store is created, which MLflow does not do safely by itself."""
    experiment_id: str = field(init=False, default="")
    parent_id: str = field(init=False, default="")
    _client: MlflowClient = field(init=False, repr=False)
    _shown: dict[int, _Shown] = field(init=False, repr=False, default_factory=dict)

    def open(self) -> None:
        """Connect, and find or make the experiment and the parent run."""
        with self.creating():
            self._client = connect(self.uri)
            found = self._client.get_experiment_by_name(self.facts.experiment)
            if found is not None and found.lifecycle_stage != "active":
                raise MMSearchError(
                    f"MLflow's experiment {self.facts.experiment!r} has been deleted; with "
                    "MLFLOW_TRACKING_URI set to its store, restore it with: "
                    f"mlflow experiments restore --experiment-id {found.experiment_id}"
                )
            self.experiment_id = (
                found.experiment_id
                if found is not None
                else self._client.create_experiment(
                    self.facts.experiment,
                    artifact_location=self.artifacts.as_uri() if self.artifacts else None,
                    tags={"mmsearch.study": self.facts.name},
                )
            )
        children = self._search("trial")
        self._open_parent({run.data.tags.get("mlflow.parentRunId") for run in children})
        self._shown = {}
        # Of two runs of one trial (see _delete_doubles), the one that is whole.
        for run in sorted(children, key=lambda run: run.info.status == "RUNNING"):
            self._shown.setdefault(
                int(run.data.tags["mmsearch.trial"]),
                _Shown(
                    run.info.run_id,
                    has_params=bool(run.data.params),
                    is_closed=run.info.status != "RUNNING",
                ),
            )

    def missing(self, journal: Journal) -> list[int]:
        """Trials that have ended but are not whole in MLflow yet."""
        closed = {number for number, shown in self._shown.items() if shown.is_closed}
        ended = (number for number in journal.numbers() if journal.has_ended(number))
        return [number for number in ended if number not in closed]

    def show_trial(self, record: TrialRecord, journal: Journal) -> None:
        """Bring a trial's run up to its record; artifacts and the end come with its outcome."""
        shown = self._shown.get(record.number) or self._create_child(record)
        if shown.is_closed:
            return
        if not shown.has_params:
            # The UI's parallel coordinates have no log axis.
            log10_rate = math.log10(record.spec["learning_rate"])
            self._log_params(shown.run_id, {**record.spec, "log10_learning_rate": log10_rate})
            shown.has_params = True
        fresh = record.curve[shown.n_segments :]
        self._log_metrics(shown.run_id, _curve_metrics(fresh))
        shown.n_segments = len(record.curve)
        if record.outcome is None:
            return
        self._log_metrics(shown.run_id, _final_metrics(record))
        if record.state == "COMPLETE":
            self._log_artifacts(shown.run_id, record, journal)
        elif record.state == "FAIL":
            error = journal.trial_folder(record.number) / "error.txt"
            if error.exists():
                self._client.log_artifact(shown.run_id, str(error))
        tags = {"mmsearch.state": record.state}
        if record.outcome.reason:
            tags["mmsearch.reason"] = record.outcome.reason[:5000]
        self._set_tags(shown.run_id, tags)
        self._client.set_terminated(
            shown.run_id, STATUS[record.state], end_time=record.outcome.ended_ms
        )
        shown.is_closed = True

    def show_running(self) -> None:
        """Show the study as being searched."""
        self._client.update_run(self.parent_id, status="RUNNING")
        self._set_tags(self.parent_id, {"mmsearch.state": "RUNNING"})

    def show_study(self, summary: StudySummary) -> None:
        """Bring the parent run up to where the study stands, and close it."""
        self._delete_doubles()
        counts = {
            f"n_{state.lower()}": sum(trial.state == state for trial in summary.trials)
            for state in ("COMPLETE", "PRUNED", "FAIL")
        }
        best = best_trial(summary.trials)
        metrics: dict[str, float] = dict(counts)
        tags = {"mmsearch.state": "COMPLETE" if summary.is_done else "INTERRUPTED"}
        note = self.facts.description
        if best is not None and best.dev_loss is not None:
            tags["mmsearch.best_trial"] = str(best.number)
            metrics["best_dev_loss"] = best.dev_loss
            note += "\n\n" + _best_note(best, counts)
        now_ms = max((t.outcome.ended_ms for t in summary.trials if t.outcome), default=0)
        self._log_metrics(
            self.parent_id, [_metric(key, value, now_ms, 0) for key, value in metrics.items()]
        )
        self._set_tags(self.parent_id, tags | {"mlflow.note.content": note})
        self._client.set_experiment_tag(self.experiment_id, "mlflow.note.content", note)
        with tempfile.TemporaryDirectory() as folder:
            for path in _study_figures(summary, self.facts.name, Path(folder)):
                self._client.log_artifact(self.parent_id, str(path), "figures")
        status = "FINISHED" if summary.is_done else "KILLED"
        self._client.set_terminated(self.parent_id, status)

    def _search(self, kind: str) -> list[Run]:
        """Find all runs of one kind, oldest first."""
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                f"tags.mmsearch.kind = '{kind}'",
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def _open_parent(self, in_use: set[str | None]) -> None:
        """Find the parent run, the one that children name if there are two, or make it."""
        parents = sorted(self._search("study"), key=lambda run: run.info.run_id not in in_use)
        self.parent_id = parents[0].info.run_id if parents else self._create_parent()
        held = parents[0].data.params if parents else {}
        lacking = {key: value for key, value in self.facts.params.items() if key not in held}
        if lacking:
            self._log_params(self.parent_id, lacking)

    def _delete_doubles(self) -> None:
        """Delete the second run of a trial or of the study.

        MLflow's client repeats a call that timed out, and we open again and look: a server that
        was only slow makes a run of each of the calls, the last of them after we have looked.
        """
        in_use = {self.parent_id, *(shown.run_id for shown in self._shown.values())}
        known = {str(number) for number in self._shown}
        doubles = [
            *self._search("study"),
            *(run for run in self._search("trial") if run.data.tags["mmsearch.trial"] in known),
        ]
        for run in doubles:
            if run.info.run_id not in in_use:
                self._client.delete_run(run.info.run_id)

    def _create_parent(self) -> str:
        tags = {
            **self.facts.tags,
            "mmsearch.kind": "study",
            "mmsearch.study": self.facts.name,
            "mmsearch.state": "RUNNING",
            "mlflow.note.content": self.facts.description,
        }
        run = self._client.create_run(self.experiment_id, tags=tags, run_name=self.facts.name)
        return str(run.info.run_id)

    def _create_child(self, record: TrialRecord) -> _Shown:
        tags = {
            **self.facts.tags,
            "mmsearch.kind": "trial",
            "mmsearch.study": self.facts.name,
            "mmsearch.trial": str(record.number),
            "mmsearch.state": "RUNNING",
            "mmsearch.seed": str(record.spec["seed"]),
            "mlflow.parentRunId": self.parent_id,
        }
        run = self._client.create_run(
            self.experiment_id,
            start_time=record.facts["started_ms"],
            tags=tags,
            run_name=f"trial {record.number}",
        )
        shown = self._shown[record.number] = _Shown(run.info.run_id)
        return shown

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param  # noqa: PLC0415 (slow; see connect)

        self._client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])

    def _log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag  # noqa: PLC0415 (slow; see connect)

        self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _log_artifacts(self, run_id: str, record: TrialRecord, journal: Journal) -> None:
        folder = journal.trial_folder(record.number)
        weights = journal.read_weights(record)
        for name in ("weights.safetensors", "spec.json"):
            self._client.log_artifact(run_id, str(folder / name), "model")
        if (folder / "samples.txt").exists():
            self._client.log_artifact(run_id, str(folder / "samples.txt"))
        with tempfile.TemporaryDirectory() as scratch:
            for path in _trial_figures(record, weights, self.facts.characters, Path(scratch)):
                self._client.log_artifact(run_id, str(path), "figures")


def connect(uri: str) -> MlflowClient:
    """Open an MLflow store; a local one is created where it is missing.

    MLflow is imported here, since it takes over a second; its telemetry is off, and a dead server
    holds a call for seconds and not for minutes, unless the environment says otherwise.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient  # noqa: PLC0415

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def first_line(error: Exception) -> str:
    """Say an error of MLflow's in one line: what it is, without its log."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def _metric(key: str, value: float, timestamp_ms: int, step: int) -> Metric:
    from mlflow.entities import Metric  # noqa: PLC0415 (slow; see connect)

    return Metric(key, float(value), timestamp_ms, step)


def _curve_metrics(curve: Sequence[Any]) -> list[Metric]:
    """Give the points of some segments; a segment's points share the time of its end."""
    metrics = []
    for record in curve:
        for step, loss, rate in record.train:
            metrics.append(_metric("loss/train", loss, record.ended_ms, step))
            metrics.append(_metric("learning_rate", rate, record.ended_ms, step))
        metrics.append(_metric("loss/dev", record.dev_loss, record.ended_ms, record.step))
    return metrics


def _final_metrics(record: TrialRecord) -> list[Metric]:
    values = {"n_parameters": record.facts["n_parameters"], "wall_s": record.wall_s}
    step = 0
    if record.best is not None and record.dev_loss is not None:
        step = record.curve[-1].step
        values |= {
            "dev_loss": record.dev_loss,
            "best_dev_loss": record.best.dev_loss,
            "best_step": record.best.step,
            "train_loss": record.curve[-1].train[-1][1],
            "bits_per_char": record.dev_loss / math.log(2),
            "perplexity": math.exp(min(record.dev_loss, 700)),
        }
    if record.steps_per_s is not None:
        values["steps_per_s"] = record.steps_per_s
    assert record.outcome is not None  # noqa: S101 (the caller's condition, for the type checker)
    return [_metric(key, value, record.outcome.ended_ms, step) for key, value in values.items()]


def _trial_figures(
    record: TrialRecord, weights: bytes, characters: Sequence[str], folder: Path
) -> list[Path]:
    from safetensors.numpy import load  # noqa: PLC0415 (not for --help)

    from mmsearch.tracking import figures, style  # noqa: PLC0415 (matplotlib is slow)
    from mmsearch.tracking.embedding import embedding_scatter  # noqa: PLC0415 (likewise)

    title = f"trial {record.number}"
    train = [point for segment in record.curve for point in segment.train]
    loss = figures.loss_curve(
        [(step, value) for step, value, _ in train],
        [(segment.step, segment.dev_loss) for segment in record.curve],
        [(step, rate) for step, _, rate in train],
        title=f"{title}: dev loss {record.dev_loss:.4f}",
    )
    embedding = load(weights)["C"]
    scatter = embedding_scatter(embedding, characters, title=f"{title}: embedding")
    paths = [folder / "loss.png", folder / "embedding.png"]
    for figure, path in zip((loss, scatter), paths, strict=True):
        style.save_png(figure, path)
    return paths


def _study_figures(summary: StudySummary, study: str, folder: Path) -> list[Path]:
    from mmsearch.tracking import figures, style  # noqa: PLC0415 (matplotlib is slow)

    drawn = {}
    scored = [trial for trial in summary.trials if trial.dev_loss is not None and trial.outcome]
    if scored:
        drawn["history"] = figures.study_history(
            [(trial.number, trial.dev_loss or math.nan, trial.state) for trial in scored],
            title=f"{study}: history",
        )
    complete = [trial for trial in scored if trial.state == "COMPLETE"]
    if len(complete) > 1:
        names = [name for name in HYPERPARAMETERS if len({t.spec[name] for t in complete}) > 1]
        drawn["parallel_coordinates"] = figures.parallel_coordinates(
            [({n: t.spec[n] for n in names}, t.dev_loss or math.nan) for t in complete],
            log_axes=summary.log_axes,
            title=f"{study}: complete trials",
        )
    if summary.importances:
        drawn["importance"] = figures.importances(
            summary.importances, title=f"{study}: importance for the dev loss"
        )
    paths = []
    for name, figure in drawn.items():
        paths.append(folder / f"{name}.png")
        style.save_png(figure, paths[-1])
    return paths


def _best_note(best: TrialRecord, counts: Mapping[str, int]) -> str:
    """Say the result in Markdown."""
    rows = "\n".join(f"| `{name}` | {best.spec[name]:.6g} |" for name in HYPERPARAMETERS)
    return (
        f"**Best: trial {best.number}, dev loss {best.dev_loss:.4f} nats per character**, of "
        f"{counts['n_complete']} complete, {counts['n_pruned']} pruned and "
        f"{counts['n_fail']} failed trials.\n\n| hyperparameter | value |\n|---|---|\n{rows}"
    )
