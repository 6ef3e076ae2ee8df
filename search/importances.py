"""How much of the score each hyperparameter explains."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import optuna

from mmsearch.search.study import distribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mmsearch.search.space import Space
    from mmsearch.tracking.journal import TrialRecord


def importances(trials: Iterable[TrialRecord], space: Space) -> Mapping[str, float]:
    """Give each searched hyperparameter's share of the variance of the score.

    PED-ANOVA (Watanabe et al., 2023), as Optuna computes it from the complete trials. Empty where
    it cannot tell: too few of them, or nothing that varies.
    """
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    searched = {
        name: distribution(dimension)
        for name, dimension in space.dimensions.items()
        if not dimension.is_fixed
    }
    study = optuna.create_study()
    for trial in complete:
        study.add_trial(
            optuna.trial.create_trial(
                value=trial.dev_loss,
                params={name: trial.spec[name] for name in searched},
                distributions=searched,
            )
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = dict(optuna.importance.get_param_importances(study))
    except (ValueError, RuntimeError, optuna.exceptions.OptunaError):
        return {}
    # Equal shares for all are its way of saying that it cannot tell.
    return {} if len(found) > 1 and len(set(found.values())) == 1 else found
