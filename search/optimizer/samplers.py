"""Optuna's samplers, and the distributions of a search space."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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
    """TPE with a given search space, which it would otherwise infer from all trials each time.

    It samples finely spaced integers as floats and rounds them. Optuna integrates each kernel of
    TPE over each integer that it considers, in Python, which takes about half of a proposal.
    """

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

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose values; none before there are enough trials to learn from."""
        sampled = {name: _as_float(each) or each for name, each in search_space.items()}
        values = super().sample_relative(study, trial, sampled)
        return {name: _on_grid(search_space[name], value) for name, value in values.items()}


def _as_float(distribution: BaseDistribution) -> FloatDistribution | None:
    """Return the floats that round to an integer distribution's values; None for a coarse one.

    TPE judges a float before it is rounded, so the values must lie close together: the widest
    step, which is the first one on a log scale, is at most one and a half of TPE's narrowest
    kernels, each a hundredth of the range wide. Otherwise the lowest values come too often.
    """
    if not isinstance(distribution, IntDistribution):
        return None
    step, log = distribution.step, distribution.log
    low, high = distribution.low - step / 2, distribution.high + step / 2
    width, widest = (math.log(high / low), step / distribution.low) if log else (high - low, step)
    if widest > 1.5 * width / 100:
        return None
    return FloatDistribution(low, high, log=log)


def _on_grid(distribution: BaseDistribution, value: Any) -> Any:
    """Return an integer distribution's value nearest to a float; any other value as it is."""
    if not isinstance(distribution, IntDistribution):
        return value
    low, step = distribution.low, distribution.step
    nearest = low + round((value - low) / step) * step
    return min(max(nearest, low), distribution.high)


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
