"""What every view of the journal promises: MLflow's runs, and Optuna's storage."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import optuna
import pytest
from mlflow import MlflowClient

from mmsearch.search.optimizer.optuna_view import OptunaView
from mmsearch.search.study.space import Space
from mmsearch.tracking.journal.records import TrialRecord
from mmsearch.tracking.view import View
from tests.support.assertions import STATUS
from tests.support.tracked_study import NewStore, Study

SPACE = Space.parse(
    {
        "embedding_dim": {"low": 2, "high": 48, "log": True},
        "hidden_width": {"low": 64, "high": 512, "log": True},
        "learning_rate": {"low": 0.001, "high": 1, "log": True},
    },
    base={},
)
T1_MS = 1_800_000_000_000


@dataclass(frozen=True, slots=True)
class Shown:
    """A trial as the view's own tool shows it."""

    state: str
    """State by Optuna's names; in MLflow the tag, which must agree with the run's status."""
    params: Mapping[str, str]
    losses: Mapping[int, float]
    """Dev loss by step."""
    reason: str
    score: float | None
    """Score of a complete trial."""
    everything: Any
    """All that is stored, to be compared with itself."""


@dataclass(frozen=True, slots=True)
class InMLflow:
    """Runs of trials, in a store of their own."""

    study: Study
    database: Path

    def view(self) -> View:
        """Make a view that knows nothing yet, as each process does."""
        return self.study.tracker(self._uri, self.database.with_name("artifacts"))

    def trials(self) -> dict[int, Shown]:
        """Read the trials with plain MLflow; each must be there once."""
        client, found = MlflowClient(self._uri), {}
        for run in self._runs(client):
            info, tags = run.info, run.data.tags
            histories = {
                key: [
                    (p.step, p.timestamp, p.value)
                    for p in client.get_metric_history(info.run_id, key)
                ]
                for key in run.data.metrics
            }
            losses = {step: loss for step, _, loss in histories.get("loss/dev", [])}
            assert len(losses) == len(histories.get("loss/dev", []))
            number, state = int(tags["mmsearch.trial"]), tags["mmsearch.state"]
            is_waiting = state == "INTERRUPTED"
            assert info.status == (
                "SCHEDULED" if is_waiting else {**STATUS, "RUNNING": "RUNNING"}[state]
            )
            assert number not in found
            files = [item.path for item in client.list_artifacts(info.run_id)]
            found[number] = Shown(
                state="WAITING" if is_waiting else state,
                params=run.data.params,
                losses=losses,
                reason=tags.get("mmsearch.reason", ""),
                score=run.data.metrics["dev_loss"] if state == "COMPLETE" else None,
                everything=(dict(info), tags, histories, files),
            )
        return found

    def delete_trials(self) -> None:
        """Delete the runs with plain MLflow."""
        client = MlflowClient(self._uri)
        for run in self._runs(client):
            client.delete_run(run.info.run_id)

    @property
    def _uri(self) -> str:
        return f"sqlite:///{self.database}"

    def _runs(self, client: MlflowClient) -> list[Any]:
        experiment = client.get_experiment_by_name(f"mmsearch/{self.study.journal.name}")
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id], "tags.mmsearch.kind = 'trial'"))


@dataclass(frozen=True, slots=True)
class InOptuna:
    """Optuna's trials, in a storage of their own."""

    study: Study
    database: Path

    def view(self) -> View:
        """Make a view that knows nothing yet, as each process does."""
        return OptunaView(self._url, self._name, self.study.facts.id, SPACE)

    def trials(self) -> dict[int, Shown]:
        """Read the trials with plain Optuna."""
        return {
            trial.number: Shown(
                state=trial.state.name,
                params={name: str(value) for name, value in trial.params.items()},
                losses=trial.intermediate_values,
                reason=trial.user_attrs.get("mmsearch.reason", ""),
                score=trial.value if trial.state.name == "COMPLETE" else None,
                everything=trial,
            )
            for trial in optuna.load_study(study_name=self._name, storage=self._url).trials
        }

    def delete_trials(self) -> None:
        """Delete the study with plain Optuna."""
        optuna.delete_study(study_name=self._name, storage=self._url)

    @property
    def _url(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def _name(self) -> str:
        return self.study.journal.name


Kind: TypeAlias = InMLflow | InOptuna


@pytest.fixture
def study(make_study: Callable[[str], Study]) -> Study:
    """Begin a study; each test has a database of its own."""
    return make_study("names")


@pytest.fixture(params=["MLflow", "Optuna"])
def kind(
    request: pytest.FixtureRequest,
    study: Study,
    new_store: NewStore,
    empty_storage: Path,
    tmp_path: Path,
) -> Kind:
    """Make each kind of view, without a trial."""
    if request.param == "MLflow":
        new_store.copy(tmp_path)
        return InMLflow(study, tmp_path / "mlflow.db")
    return InOptuna(study, Path(shutil.copy(empty_storage, tmp_path / "optuna.db")))


def opened(kind: Kind) -> View:
    view = kind.view()
    view.open()
    return view


def send(kind: Kind, study: Study) -> None:
    """Send what the view lacks, as a command does, and the unfinished trials at its end."""
    view, records = opened(kind), study.journal.records()
    for number in view.lacking(records):
        view.show_trial(records[number], study.journal, is_idle=records[number].outcome is None)
    view.close()


def write_five(study: Study) -> list[TrialRecord]:
    """Write a trial of each state, and one that has only begun."""
    complete = study.complete(0, n_segments=3)
    study.begin(1)
    study.train(1)
    pruned = study.end(1, "PRUNED", reason="pruned at step 500 of 2000")
    study.begin(2)
    failed = study.end(2, "FAIL", reason="ValueError: é", error="Traceback: é\n")
    study.begin(3)
    return [complete, pruned, failed, study.train(3), study.begin(4)]


def assert_shows(kind: Kind, study: Study, running: str = "RUNNING") -> None:
    """Hold what the view shows against the journal."""
    shown, records = kind.trials(), study.journal.records()
    assert sorted(shown) == [record.number for record in records]
    for record in records:
        trial = shown[record.number]
        assert trial.state == (record.state if record.outcome else running)
        for name in SPACE.dimensions:
            assert trial.params[name] == str(getattr(record.spec, name))
        assert trial.losses == {line.step: line.dev_loss for line in record.curve}
        assert trial.reason == (record.outcome.reason if record.outcome else "")
        assert trial.score == (record.dev_loss if record.is_complete else None)


def test_running_trial_is_followed_and_closed_by_one_process_or_the_next(
    kind: Kind, study: Study
) -> None:
    view = opened(kind)
    view.show_running()
    for segment in range(5):
        record = study.train(0) if segment else study.begin(0, n_segments=5)
        if segment == 3:
            view = opened(kind)
        view.show_trial(record, study.journal)
        assert_shows(kind, study)

    view.show_trial(study.end(0, "PRUNED", reason="it was last"), study.journal)

    assert_shows(kind, study)


def test_trials_are_shown_and_what_is_sent_again_changes_nothing(kind: Kind, study: Study) -> None:
    """A command, its retries and `sync` all send the same journal."""
    records, view = write_five(study), opened(kind)
    assert view.lacking(records) == [0, 1, 2, 3, 4]
    for record in records:
        view.show_trial(record, study.journal)
    assert_shows(kind, study)
    before = kind.trials()

    for again in (view, opened(kind)):
        again.lacking(records)
        for record in records:
            again.show_trial(record, study.journal)

    assert kind.trials() == before


def test_trial_that_nobody_trains_waits_and_goes_on_under_its_number(
    kind: Kind, study: Study
) -> None:
    study.begin(0)
    record = study.train(0)
    send(kind, study)
    assert_shows(kind, study, running="WAITING")
    assert opened(kind).lacking([record]) == []

    for step in ("again", "train", "end"):
        if step != "again":
            record = study.train(0) if step == "train" else study.end(0, "FAIL", reason="x")
        view = opened(kind)
        view.lacking([record])
        view.show_trial(record, study.journal)
        assert_shows(kind, study)


def test_lacking_are_the_ended_trials_that_are_not_whole(kind: Kind, study: Study) -> None:
    records, view = write_five(study), opened(kind)
    view.show_trial(records[0], study.journal)
    view.show_trial(records[1], study.journal)
    view.show_trial(dataclasses.replace(records[2], outcome=None), study.journal)

    assert opened(kind).lacking(records) == [2, 3, 4]

    send(kind, study)
    assert opened(kind).lacking(records) == []
    assert_shows(kind, study, running="WAITING")


def test_segment_that_is_trained_again_is_shown_once(kind: Kind, study: Study) -> None:
    """Weights lost in a crash are trained anew, to the same numbers at another time of day."""
    study.begin(0)
    study.train(0)
    opened(kind).show_trial(study.train(0), study.journal)
    study.journal.weights_path(0).unlink()
    curve, _ = study.journal.resume(0)
    assert not curve

    study.begin(0, started_ms=T1_MS)  # from which the helper takes the time of each segment
    view = opened(kind)
    for _ in range(3):
        view.show_trial(study.train(0), study.journal)
    view.show_trial(study.end(0, "PRUNED"), study.journal)

    assert_shows(kind, study)


@pytest.mark.parametrize("damage", ["trials deleted", "older copy put back", "empty copy put back"])
def test_view_is_whole_again_after(kind: Kind, study: Study, tmp_path: Path, damage: str) -> None:
    records = write_five(study)
    view = opened(kind)
    if damage == "older copy put back":  # of a moment when two trials were there, one half
        view.show_trial(records[0], study.journal)
        view.show_trial(dataclasses.replace(records[1], outcome=None), study.journal)
    view.close()
    shutil.copy(kind.database, tmp_path / "copy.db")
    send(kind, study)
    assert_shows(kind, study, running="WAITING")

    if damage == "trials deleted":
        kind.delete_trials()
    else:
        shutil.copy(tmp_path / "copy.db", kind.database)
    for _ in range(2):
        send(kind, study)

    assert_shows(kind, study, running="WAITING")


def test_second_writer_doubles_nothing(kind: Kind, study: Study) -> None:
    """`sync` may run beside a search."""
    records = write_five(study)
    one, other = opened(kind), opened(kind)
    for view, some in ((one, records[:2]), (other, records[:4]), (one, records)):
        for record in some:
            view.show_trial(record, study.journal)
    for record in records:
        other.show_trial(record, study.journal)

    for _ in range(2):  # the next command deletes what two processes made at the same moment
        view = opened(kind)
        for number in view.lacking(records):
            view.show_trial(records[number], study.journal)
        view.show_study(study.summary())

    assert_shows(kind, study)


@pytest.mark.parametrize("reason", ["é" * 20_000, "no \udcff"])
def test_any_reason_of_a_failure_is_shown(kind: Kind, study: Study, reason: str) -> None:
    """An error's text may be longer than a database takes, or hold what it does not take."""
    study.begin(0)
    study.end(0, "FAIL", reason=reason, error=reason)

    send(kind, study)

    trial = kind.trials()[0]
    assert trial.state == "FAIL"
    assert reason.encode("utf-8", "backslashreplace").decode().startswith(trial.reason)
    assert len(trial.reason) >= min(1000, len(reason))
