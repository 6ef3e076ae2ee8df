"""Optuna's samplers, and the distributions of a search space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mmsearch.search.study.space import Choices

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from mmsearch.search.study.settings import Settings
    from mmsearch.search.study.space import Dimension, Space


def make_sampler(settings: Settings, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for one trial."""
    # Independent of the seed of the trial's training.
    seed = int(np.random.SeedSequence([settings.seed, number, 1]).generate_state(1)[0])
    if settings.sampler == "tpe":
        return _TPESampler(settings.space, seed)
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


class _TPESampler(optuna.samplers.TPESampler):
    """TPE with a given search space, which it would otherwise infer from all trials each time."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed)
        # Sorted by name as Optuna infers it, which determines the order of the draws.
        self._distributions = {
            name: distribution(dimension)
            for name, dimension in sorted(space.dimensions.items())
            if not dimension.is_fixed
        }

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the distributions of the searched hyperparameters."""
        del study, trial
        return self._distributions


def trial_seed(study_seed: int, number: int) -> int:
    """Return the 32-bit seed of a trial's training."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distributions of all hyperparameters, fixed ones included."""
    return {name: distribution(dimension) for name, dimension in space.dimensions.items()}


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return a dimension's distribution."""
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    low, high, log, step = dimension.low, dimension.high, dimension.log, dimension.step
    return (
        IntDistribution(int(low), int(high), log=log, step=int(step or 1))
        if dimension.is_int
        else FloatDistribution(low, high, log=log, step=step)
    )
