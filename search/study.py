"""Optuna's side of a study: open, ask, report, prune, tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from mmsearch.errors import RefusedError
from mmsearch.search.cma_es import ReplayedCmaEs
from mmsearch.search.coordinator import Proposal
from mmsearch.search.patience import Patience
from mmsearch.search.sole_writer import SoleWriter
from mmsearch.search.space import Choices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from mmsearch.search.settings import Settings
    from mmsearch.search.space import Dimension, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

STATES = {
    "COMPLETE": TrialState.COMPLETE,
    "PRUNED": TrialState.PRUNED,
    "FAIL": TrialState.FAIL,
}
_DIRECTION = optuna.study.StudyDirection.MINIMIZE
_ID = "mmsearch.id"
_ENQUEUED = "mmsearch.enqueued"
_REASON = "mmsearch.reason"


class StudyHandle:
    """One study in Optuna, as the coordinator uses it. One process at a time."""

    def __init__(
        self,
        study: optuna.Study,
        settings: Settings,
        storage: optuna.storages.BaseStorage,
        patience: Patience,
    ) -> None:
        self.study = study
        self._storage = storage
        self._settings = settings
        self._patience = patience
        self._trials: dict[int, tuple[optuna.Trial, set[int]]] = {}

    @classmethod
    def open(  # noqa: PLR0913 (which study, and how it is reached)
        cls,
        storage: optuna.storages.BaseStorage,
        name: str,
        study_id: str,
        settings: Settings,
        *,
        must_exist: bool,
        patience: Patience | None = None,
    ) -> StudyHandle:
        """Open a study, or create it.

        Args:
            storage: where it lives.
            name: the same in Optuna as in the workspace.
            study_id: what the workspace knows the study by.
            settings: its sampler, pruner, space and seed.
            must_exist: whether the workspace has trials of it already.
            patience: what the storage was opened with.

        Raises:
            AwayError: the storage was away for longer than that.
            RefusedError: the storage has another study of this name, or lacks this one.
        """
        patience = patience or Patience()
        written = SoleWriter(storage, patience)
        names = optuna.get_all_study_names(written)
        if must_exist and name not in names:
            raise RefusedError(
                f"the workspace has trials of study {name!r}, but its Optuna storage has no such "
                "study; name the storage it was started with by --storage"
            )
        study = optuna.create_study(
            study_name=name,
            storage=written,
            direction=_DIRECTION,
            load_if_exists=True,
            pruner=make_pruner(settings),
        )
        if study.user_attrs.get(_ID) != study_id:
            # One without trials may be what a killed process of ours left.
            is_free = not study.get_trials(deepcopy=False) and study.directions == [_DIRECTION]
            if not is_free:
                whose = (
                    "of another workspace" if _ID in study.user_attrs else "not made by mmsearch"
                )
                raise RefusedError(
                    f"the Optuna storage has a study {name!r} {whose}; name another with --study, "
                    "or the workspace that it belongs to with --workspace"
                )
            study.set_user_attr(_ID, study_id)
        return cls(study, settings, storage, patience)

    def close(self) -> None:
        """Close the database; a local one is whole in its one file then, without its log."""
        self._storage.remove_session()
        if isinstance(self._storage, optuna.storages.RDBStorage):
            self._storage.engine.dispose()

    def stop(self) -> None:
        """Wait for the storage no more; may be called from a signal handler."""
        self._patience.stop()

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Queue configurations that have not been queued before."""
        seen = [
            trial.user_attrs[_ENQUEUED]
            for trial in self.study.get_trials(deepcopy=False)
            if _ENQUEUED in trial.user_attrs
        ]
        for point in points:
            if dict(point) not in seen:
                self.study.enqueue_trial(dict(point), user_attrs={_ENQUEUED: dict(point)})
                seen.append(dict(point))

    def counts(self) -> dict[str, int]:
        """Count trials by state."""
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        return {name: states.count(state) for name, state in STATES.items()}

    def running(self) -> list[int]:
        """Trials that Optuna calls RUNNING; after a crash, ours to carry on."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.number for trial in trials]

    def ask(self) -> Proposal:
        """Begin a trial."""
        # A sampler of its own for each trial: what it draws follows from the seed and the trial's
        # number, and a resumed study draws what an undisturbed one would have.
        number = self._next_number()
        self.study.sampler = make_sampler(self._settings, number)
        return self._propose(self.study.ask(), set())

    def attach(self, number: int) -> Proposal:
        """Take up a RUNNING trial of an earlier process; proposes what it had not yet drawn."""
        frozen = next(t for t in self.study.get_trials(deepcopy=False) if t.number == number)
        self.study.sampler = make_sampler(self._settings, number)
        trial = optuna.Trial(self.study, frozen._trial_id)  # noqa: SLF001 (no public way)
        return self._propose(trial, set(frozen.intermediate_values))

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Give Optuna an intermediate value; the same step again changes nothing."""
        trial, reported = self._trials[number]
        if step not in reported:
            trial.report(dev_loss, step)
            reported.add(step)

    def should_prune(self, number: int) -> bool:
        """Whether the pruner would end the trial at its latest report."""
        return self._trials[number][0].should_prune()

    def tell(
        self, number: int, state: str, dev_loss: float | None = None, reason: str = ""
    ) -> None:
        """End a trial; `dev_loss` is the score of a COMPLETE one.

        The reason of another end becomes the user attribute `mmsearch.reason`.
        """
        if reason and number in self._trials:
            self._trials[number][0].set_user_attr(_REASON, reason)
        value = dev_loss if state == "COMPLETE" else None
        self.study.tell(number, value, state=STATES[state], skip_if_finished=True)
        self._trials.pop(number, None)

    def _next_number(self) -> int:
        trials = self.study.get_trials(deepcopy=False)
        waiting = (trial.number for trial in trials if trial.state == TrialState.WAITING)
        return min(waiting, default=len(trials))

    def _propose(self, trial: optuna.Trial, reported: set[int]) -> Proposal:
        point: dict[str, Any] = {}
        drawn = trial.params
        for name, dimension in self._settings.space.dimensions.items():
            if name in drawn:
                self._draw_again(trial, name, distribution(dimension))
            point[name] = _suggest(trial, name, dimension)
        self._trials[trial.number] = (trial, reported)
        seed = trial_seed(self._settings.seed, trial.number)
        return Proposal(number=trial.number, point=point, seed=seed)

    def _draw_again(self, trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
        """Move the sampler on by what a killed process had drawn from it, one by one.

        Else what comes next would be drawn at another place of the stream than undisturbed.
        """
        is_drawn_alone = not (
            trial._is_fixed_param(name, distribution)  # noqa: SLF001 (as Optuna itself asks)
            or distribution.single()
            or trial._is_relative_param(name, distribution)  # noqa: SLF001 (likewise)
        )
        if is_drawn_alone:
            frozen = self.study._storage.get_trial(trial._trial_id)  # noqa: SLF001 (no public way)
            self.study.sampler.sample_independent(self.study, frozen, name, distribution)


def trial_seed(study_seed: int, number: int) -> int:
    """Seed of one trial's training, 32 bits; no two trials of a study share it but by chance."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


class _TPESampler(optuna.samplers.TPESampler):
    """TPE told its space, which it would otherwise infer anew from all trials for each proposal."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed)
        # By name, as inferred: it draws in this order.
        self._distributions = {
            name: distribution(dimension)
            for name, dimension in sorted(space.dimensions.items())
            if not dimension.is_fixed
        }

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Give what is searched."""
        del study, trial
        return self._distributions


def distribution(dimension: Dimension) -> BaseDistribution:
    """Give a dimension as Optuna knows it."""
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    low, high, log, step = dimension.low, dimension.high, dimension.log, dimension.step
    return (
        IntDistribution(int(low), int(high), log=log, step=int(step or 1))
        if dimension.is_int
        else FloatDistribution(low, high, log=log, step=step)
    )


def _suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """Ask for a value of a dimension."""
    if isinstance(dimension, Choices):
        return trial.suggest_categorical(name, dimension.values)
    low, high, log, step = dimension.low, dimension.high, dimension.log, dimension.step
    return (
        trial.suggest_int(name, int(low), int(high), log=log, step=int(step or 1))
        if dimension.is_int
        else trial.suggest_float(name, low, high, log=log, step=step)
    )


def make_sampler(settings: Settings, number: int) -> optuna.samplers.BaseSampler:
    """Make the sampler that proposes trial `number`."""
    # One stream beside the trial's own.
    seed = int(np.random.SeedSequence([settings.seed, number, 1]).generate_state(1)[0])
    if settings.sampler == "tpe":
        return _TPESampler(settings.space, seed)
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if settings.sampler == "cmaes":
        return ReplayedCmaEs(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def make_pruner(settings: Settings) -> optuna.pruners.BasePruner:
    """Make the pruner; steps are SGD steps."""
    segment = max(1, settings.steps // settings.segments)
    if settings.pruner == "median":
        # From the first report on: see docs/log.md, 2026-11-23.
        return optuna.pruners.MedianPruner(n_startup_trials=5)
    if settings.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=max(1, settings.steps // 10), reduction_factor=2
        )
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=segment, max_resource=settings.steps)
    return optuna.pruners.NopPruner()
