"""What each of the three ledgers promises: the user's file, Optuna's storage and MLflow."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mmsearch.errors import MMSearchError
from mmsearch.search.optimizer.claims import optuna_looks
from mmsearch.search.results.final_note import used_up
from mmsearch.tracking.ledger.mlflow_runs import MLflowLedger
from mmsearch.tracking.ledger.record import NUMBERS, Look
from mmsearch.tracking.ledger.user_file import UserLedger
from tests.support.tracked_study import NewStore, Study

SPLIT = "d" * 64  # as the tags of the study say
RESULT = {**dict.fromkeys(NUMBERS, 1), "test_loss": 2.0625, "spec": {"seed": 1}, "why": "ζ ± 1"}
FIRST = Look(
    id="a",
    number=1,
    split=SPLIT,
    model_sha256="0" * 64,
    model="trial 3, seed 1",
    study="names",
    study_id="an-id",
    reason="",
    claimed_ms=1000,
    host="here",
)
TESTED = replace(FIRST, result=RESULT)
REASON = "é" * 1000 + " \n'\"%"
AGAIN = replace(FIRST, id="b", number=2, model="trial 5", claimed_ms=2000, reason=REASON)


def rewrite(path: Path, table: str, column: str, before: str, after: str) -> None:
    """Replace text in a column of a database."""
    statement = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"  # noqa: S608 (our own)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, (before, after))


@dataclass(frozen=True, slots=True)
class UserFile:
    """The user's own ledger; each call opens it anew, as a process does."""

    path: Path
    place: str = "line 1"

    def read(self, split: str = SPLIT) -> list[Look]:
        """Read the looks at a split."""
        return UserLedger(self.path.parent).read(split)

    def write(self, look: Look) -> None:
        """Write a look."""
        with UserLedger(self.path.parent).locked(look.split):
            UserLedger(self.path.parent).write(look)

    def n_entries(self) -> int:
        """Count the looks with plain Python; a claim and its result have a line each."""
        lines = self.path.read_text().splitlines()
        assert len(set(lines)) == len(lines)
        return len({json.loads(line)["id"] for line in lines})

    def spoil(self, before: str, after: str) -> None:
        """Change the JSON of the looks."""
        self.path.write_text(self.path.read_text().replace(before, after))


@dataclass(frozen=True, slots=True)
class InOptuna:
    """Optuna's storage; each call opens it anew, as a process does."""

    path: Path
    place: str = "trial 0"

    def read(self, split: str = SPLIT) -> list[Look]:
        """Read the looks at a split."""
        with optuna_looks(self._url, "") as looks:
            return looks.read(split)

    def write(self, look: Look) -> None:
        """Write a look."""
        with optuna_looks(self._url, "") as looks:
            looks.write(look)

    def n_entries(self) -> int:
        """Count the trials with plain Optuna; their values are test losses."""
        trials = optuna.load_study(study_name=f"mmsearch/test/{SPLIT}", storage=self._url).trials
        for trial in trials:
            assert trial.value == (RESULT["test_loss"] if trial.state.is_finished() else None)
        return len(trials)

    def spoil(self, before: str, after: str) -> None:
        """Change the JSON of the looks."""
        rewrite(self.path, "trial_user_attributes", "value_json", before, after)

    @property
    def _url(self) -> str:
        return f"sqlite:///{self.path}"


@dataclass(frozen=True, slots=True)
class InMLflow:
    """MLflow's runs; each call opens the store anew, as a process does."""

    path: Path
    study: Study
    place: str = "run"

    def read(self, split: str = SPLIT) -> list[Look]:
        """Read the looks at a split."""
        return self._open().read(split)

    def write(self, look: Look) -> None:
        """Write a look."""
        self._open().write(look, n_words=7, note="a note")

    def n_entries(self) -> int:
        """Count the runs with plain MLflow, and check their metrics, status and data set."""
        for run in self.runs():
            is_done = "test_loss" in run.data.metrics
            assert run.info.status == ("FINISHED" if is_done else "RUNNING")
            assert not is_done or run.data.metrics["test_loss"] == RESULT["test_loss"]
            assert run.inputs is not None
            [dataset] = run.inputs.dataset_inputs
            assert json.loads(str(dataset.dataset.profile)) == {"num_rows": 7}
            assert SPLIT in dataset.dataset.source
        return len(self.runs())

    def spoil(self, before: str, after: str) -> None:
        """Change the JSON of the looks."""
        rewrite(self.path, "tags", "value", before, after)

    def runs(self) -> list[Run]:
        """Find the runs of looks with plain MLflow."""
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, "tags.mmsearch.kind = 'final-test'"))

    @property
    def client(self) -> MlflowClient:
        """Plain MLflow."""
        return MlflowClient(self._uri)

    def _open(self) -> MLflowLedger:
        tracker = self.study.tracker(self._uri, self.path.with_name("artifacts"))
        tracker.open()
        return MLflowLedger(tracker)

    @property
    def _uri(self) -> str:
        return f"sqlite:///{self.path}"


Ledger: TypeAlias = UserFile | InOptuna | InMLflow


@pytest.fixture
def mlflow_ledger(
    make_study: Callable[[str], Study], new_store: NewStore, tmp_path: Path
) -> InMLflow:
    """Make a store without a look."""
    new_store.copy(tmp_path)
    return InMLflow(tmp_path / "mlflow.db", make_study("names"))


@pytest.fixture(params=["user", "Optuna", "MLflow"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """Make each ledger, without a look."""
    if request.param == "user":
        return UserFile(tmp_path / "ledger" / f"{SPLIT}.jsonl")
    if request.param == "Optuna":
        return InOptuna(tmp_path / "optuna.db")
    found: InMLflow = request.getfixturevalue("mlflow_ledger")
    return found


def test_claim_and_then_its_result_are_read_back_by_any_process(ledger: Ledger) -> None:
    assert ledger.read() == []
    for look in (FIRST, TESTED):
        for _ in range(2):  # what is written again changes nothing
            ledger.write(look)
        assert ledger.read() == [look]
        assert ledger.n_entries() == 1
    assert ledger.read("e" * 64) == []


def test_second_claim_is_refused_with_the_first_named(ledger: Ledger) -> None:
    """Each ledger alone suffices, where the other two were lost."""
    ledger.write(FIRST)

    refusal = str(used_up(ledger.read()))

    assert FIRST.model in refusal
    assert FIRST.study in refusal


def test_looks_of_another_ledger_are_taken_over_once_and_in_order(ledger: Ledger) -> None:
    """They may be those of another study, and have any reason."""
    looks = [TESTED, replace(AGAIN, study="cities", study_id="another-id")]
    for _ in range(2):
        for look in looks:
            ledger.write(look)

    assert ledger.read() == looks
    assert ledger.n_entries() == 2


DAMAGES = (
    ('"number": 1', '"number": "x"'),
    ('"number": 1', '"number": true'),
    ('"claimed_ms": 1000', '"claimed_ms": null'),
    ('"claimed_ms": 1000', f'"claimed_ms": {10**20}'),
    ('"study": "names"', '"study": 3'),
    ('"host": "here"', '"home": "here"'),
    ('"tested_ms": 1', f'"tested_ms": {10**20}'),
    ('"spec": {"seed": 1}', '"spec": null'),
    ('"dev_loss": 1', '"dev_loss": NaN'),
    ('"test_loss": 2.0625', '"lost": 1'),
)
"""Text of a look's JSON, and what it is damaged to."""


def test_damaged_look_is_an_error_with_its_place_and_not_an_unused_split(ledger: Ledger) -> None:
    ledger.write(TESTED)
    for before, after in DAMAGES:
        ledger.spoil(before, after)
        try:
            found: object = ledger.read()
        except MMSearchError as error:
            found = str(error)
        assert isinstance(found, str), after
        assert ledger.place in found, after
        ledger.spoil(after, before)
        assert ledger.read() == [TESTED]


def test_fields_of_a_later_version_are_ignored(ledger: Ledger) -> None:
    """Machines that share a ledger need not be upgraded on one day."""
    ledger.write(TESTED)
    ledger.spoil('"host": "here"', '"mood": "bright", "host": "here"')

    assert ledger.read() == [TESTED]


@pytest.mark.parametrize("ledger", ["Optuna", "MLflow"], indirect=True)
def test_first_of_two_results_for_one_look_is_kept(ledger: Ledger) -> None:
    """Two machines may finish one look, for the same model."""
    ledger.write(TESTED)

    ledger.write(replace(FIRST, result={**RESULT, "tested_ms": 2}))

    assert ledger.read() == [TESTED]
    assert ledger.n_entries() == 1


def test_run_that_was_deleted_or_made_twice_counts_once(mlflow_ledger: InMLflow) -> None:
    """MLflow's client repeats a call that timed out, and a slow server then answers both."""
    ledger, client = mlflow_ledger, mlflow_ledger.client
    ledger.write(FIRST)
    [run] = ledger.runs()
    client.create_run(run.info.experiment_id, tags=run.data.tags)
    client.delete_run(run.info.run_id)
    assert ledger.read()[0] == FIRST

    ledger.write(TESTED)

    assert ledger.n_entries() == 1
    assert TESTED in ledger.read()
