"""CMA-ES without a state of its own: it follows from the finished trials, each time anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

if TYPE_CHECKING:
    from cmaes import CMA  # type: ignore[import-untyped]  # cmaes ships no types
    from optuna._transform import _SearchSpaceTransform
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial


class ReplayedCmaEs(optuna.samplers.CmaEsSampler):
    """Optuna's CMA-ES, but for the state that Optuna pickles into its storage and loads from there.

    Whoever could write to the storage, or hand a workspace on, could run code in the coordinator.
    What the state is made of stands in the storage anyway: the generation of each trial, its
    parameters and its score. So nothing is stored, what another program has stored is not looked
    at, and all generations are told to a fresh optimizer, which ends as the stored one would.
    """

    _finished: list[FrozenTrial]

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        """Load nothing; the caller then asks for a fresh optimizer."""
        self._finished = completed_trials

    def _init_optimizer(self, trans: _SearchSpaceTransform, direction: StudyDirection) -> CMA:
        """Make an optimizer that has been told every whole generation.

        The caller pickles one that it tells itself, which is left with nothing to tell.
        """
        optimizer = super()._init_optimizer(trans, direction)
        size = optimizer.population_size
        generations: dict[int, list[FrozenTrial]] = {}
        for trial in self._finished:
            generation = trial.system_attrs.get(self._attr_key_generation, -1)
            generations.setdefault(generation, []).append(trial)
        while len(told := generations.get(optimizer.generation, [])[:size]) == size:
            optimizer.tell([(trans.transform(trial.params), trial.value) for trial in told])
        return optimizer
