"""What the sole writer remembers is what the storage holds, whatever was written."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from mmsearch.search.sole_writer import SoleWriter
from mmsearch.search.storage import open_storage

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import FrozenTrial


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Name a database."""
    return f"sqlite:///{tmp_path}/optuna.db"


def stored(url: str) -> list[FrozenTrial]:
    """Read a study as any other process would."""
    return optuna.load_study(study_name="s", storage=url).get_trials()


@pytest.mark.parametrize(
    "pruner",
    [optuna.pruners.MedianPruner(2), optuna.pruners.SuccessiveHalvingPruner(2, reduction_factor=2)],
)
def test_memory_is_the_storage(url: str, pruner: optuna.pruners.BasePruner) -> None:
    """Asked, reported, pruned, failed, enqueued, with attributes, some at once."""
    study = optuna.create_study(
        study_name="s",
        storage=SoleWriter(open_storage(url)),
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=3),
        pruner=pruner,
    )
    study.enqueue_trial({"x": 0.5}, user_attrs={"why": "a guess"})
    running = [study.ask() for _ in range(3)]
    for turn in range(30):
        trial = running.pop(0)
        x = trial.suggest_float("x", 0.01, 1, log=True) + trial.suggest_int("n", 1, 5)
        state = TrialState.COMPLETE
        for step in range(1, 9):
            trial.report(x / step, step)
            if trial.should_prune():
                state = TrialState.PRUNED
                break
        if turn % 10 == 9:
            state = TrialState.FAIL
            trial.set_user_attr("reason", "to see it")
        study.tell(trial, x if state == TrialState.COMPLETE else None, state=state)
        running.append(study.ask())
        assert study.get_trials() == stored(url)

    states = [trial.state for trial in study.get_trials()]
    assert {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING} == set(
        states
    )
    assert study.trials[0].params["x"] == 0.5


def test_searches_alike_with_and_without(tmp_path: Path) -> None:
    """It changes no proposal and no decision."""

    def search(storage: optuna.storages.BaseStorage) -> list[tuple[float, int]]:
        study = optuna.create_study(
            storage=storage,
            sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=4),
            pruner=optuna.pruners.MedianPruner(3),
        )
        found = []
        for _ in range(25):
            trial = study.ask()
            x = trial.suggest_float("x", -3, 3)
            for step in range(5):
                trial.report((x - 1) ** 2 + 1 / (step + 1), step)
                if trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)
                    break
            else:
                study.tell(trial, (x - 1) ** 2)
            found.append((x, step))
        return found

    plain = search(open_storage(f"sqlite:///{tmp_path}/a.db"))
    assert search(SoleWriter(open_storage(f"sqlite:///{tmp_path}/b.db"))) == plain
    assert len({steps for _, steps in plain}) > 1


def test_trials_given_out_do_not_change(url: str) -> None:
    """A sampler may hold on to what it was given."""
    study = optuna.create_study(study_name="s", storage=SoleWriter(open_storage(url)))
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    [given] = study.get_trials(deepcopy=False)
    before = copy.deepcopy(given)

    trial.report(1.0, 1)
    trial.set_user_attr("key", "value")
    study.tell(trial, 1.0)

    assert given == before
    assert study.get_trials() == stored(url) != [before]


def test_trials_that_another_process_adds_are_met(url: str) -> None:
    """A number that is taken already is no reason to mix two trials up."""
    study = optuna.create_study(study_name="s", storage=SoleWriter(open_storage(url)))
    study.tell(study.ask(), 1.0)
    optuna.load_study(study_name="s", storage=url).enqueue_trial({"x": 0.25})

    trial = study.ask()
    trial.suggest_float("x", 0, 1)

    assert trial.number == 2
    assert study.get_trials() == stored(url)
    waiting = study.ask()
    assert (waiting.number, waiting.suggest_float("x", 0, 1)) == (1, 0.25)


def test_write_that_fails_is_not_remembered(url: str) -> None:
    """Memory is never ahead of the storage."""
    study = optuna.create_study(study_name="s", storage=SoleWriter(open_storage(url)))
    trial = study.ask()
    study.tell(trial, 1.0)
    before = study.get_trials()

    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_user_attr(trial._trial_id, "key", 1)

    assert study.get_trials() == before == stored(url)


def test_deleted_study_is_forgotten(url: str) -> None:
    """What is gone from the storage is gone from memory."""
    storage = SoleWriter(open_storage(url))
    study = optuna.create_study(study_name="s", storage=storage)
    study.tell(study.ask(), 1.0)

    optuna.delete_study(study_name="s", storage=storage)

    again = optuna.create_study(study_name="s", storage=storage)
    assert again.get_trials() == []
    again.tell(again.ask(), 2.0)
    assert again.get_trials() == stored(url)
