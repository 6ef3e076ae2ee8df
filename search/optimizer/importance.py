"""Hyperparameter importances: shares of the dev loss's variance, by fANOVA."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import FloatDistribution

from mmsearch.search.optimizer.samplers import distribution
from mmsearch.search.study.space import Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optuna.distributions import BaseDistribution

    from mmsearch.search.study.space import Dimension, Space
    from mmsearch.tracking.journal.records import TrialRecord

_SEED = 0
"""Seed of the random forest, so that equal trials have equal importances."""


def importances(trials: Iterable[TrialRecord], space: Space) -> Mapping[str, float]:
    """Return the share of the dev loss's variance that each searched hyperparameter explains alone.

    Functional ANOVA (Hutter et al., 2014) decomposes the variance of a random forest, fitted to the
    complete trials, over the whole space on its search scale. The remainder to 1 is due to
    interactions. Empty if there are too few trials or the losses do not differ.
    """
    searched = {name: d for name, d in space.dimensions.items() if not d.is_fixed}
    distributions = {name: _distribution(d) for name, d in searched.items()}
    study = optuna.create_study()
    try:
        for trial in trials:
            if trial.is_complete:
                params = {
                    name: _value(d, getattr(trial.spec, name)) for name, d in searched.items()
                }
                study.add_trial(
                    optuna.trial.create_trial(
                        value=trial.dev_loss, params=params, distributions=distributions
                    )
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=_SEED),
                normalize=False,
            )
    except (ValueError, RuntimeError, optuna.exceptions.OptunaError):
        return {}


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Return a dimension's distribution, of the logarithm if it is searched on a log scale.

    Optuna's fANOVA assumes uniformly distributed values even on a log scale.
    """
    if isinstance(dimension, Range) and dimension.log:
        return FloatDistribution(math.log(dimension.low), math.log(dimension.high))
    return distribution(dimension)


def _value(dimension: Dimension, value: Any) -> Any:
    return math.log(value) if dimension.log else value
