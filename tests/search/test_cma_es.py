"""CMA-ES without its pickles: the same optimizer, made anew from the trials."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna._transform import _SearchSpaceTransform

from mmsearch.search.cma_es import ReplayedCmaEs

if TYPE_CHECKING:
    from cmaes import CMA  # type: ignore[import-untyped]  # cmaes ships no types

N_TRIALS = 60
"""Eight generations of seven, and some."""


def objective(trial: optuna.Trial) -> float:
    """A valley that is not along the axes."""
    rate = trial.suggest_float("rate", 0.01, 1, log=True)
    width = trial.suggest_int("width", 32, 512, log=True)
    size = trial.suggest_int("size", 2, 10)
    return float((np.log(rate) + 2) ** 2 + (width / 50 - size) ** 2 + (size - 5) ** 2)


def searched(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """Search with a sampler."""
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=N_TRIALS)
    return study


def stored_by_optuna(study: optuna.Study) -> CMA:
    """Load what Optuna's own sampler has stored last; this test has made it itself."""
    key = "cma:optimizer"
    attributes: list[dict[str, Any]] = [
        {name: value for name, value in trial.system_attrs.items() if name.startswith(key)}
        for trial in study.get_trials()
    ]
    last = [found for found in attributes if found][-1]
    text = "".join(last[f"{key}:{i}"] for i in range(len(last)))
    loaded: CMA = pickle.loads(bytes.fromhex(text))  # noqa: S301 (see above)
    return loaded


def replayed(study: optuna.Study) -> CMA:
    """Make the optimizer from the trials."""
    sampler = ReplayedCmaEs(seed=9)
    trial = study.get_trials()[0]
    space = sampler.infer_relative_search_space(study, trial)
    sampler._restore_optimizer(sampler._get_trials(study))
    trans = _SearchSpaceTransform(space, transform_0_1=True)
    return sampler._init_optimizer(trans, study.direction)


def test_replayed_optimizer_is_the_one_that_optuna_stores() -> None:
    """Mean, step size and covariance are Optuna's own, to rounding."""
    study = searched(optuna.samplers.CmaEsSampler(seed=1))

    ours, theirs = replayed(study), stored_by_optuna(study)

    assert ours.generation == theirs.generation == 8
    for name in ("_mean", "_sigma", "_C", "_p_sigma", "_pc"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-9, err_msg=name
        )


def test_nothing_but_generations_is_stored() -> None:
    """The trials hold a number each, and no state that somebody would have to load."""
    trials = searched(ReplayedCmaEs(seed=1)).get_trials()

    assert {key for trial in trials for key in trial.system_attrs} == {"cma:generation"}
    assert max(trial.system_attrs.get("cma:generation", 0) for trial in trials) == 8


@pytest.mark.parametrize("text", ["80049551", "not hex", ""])
def test_stored_states_are_not_looked_at(text: str) -> None:
    """What Optuna's own sampler, or a stranger, has stored changes no proposal."""
    storage = optuna.storages.InMemoryStorage()
    studies = [optuna.create_study(storage=storage, study_name=name) for name in ("clean", "odd")]
    for study in studies:
        for _ in range(20):
            study.sampler = ReplayedCmaEs(seed=len(study.trials))
            trial = study.ask()
            if study.study_name == "odd":
                storage.set_trial_system_attr(trial._trial_id, "cma:optimizer:0", text)
            study.tell(trial, objective(trial))

    clean, odd = ([trial.params for trial in study.get_trials()] for study in studies)
    assert clean == odd
