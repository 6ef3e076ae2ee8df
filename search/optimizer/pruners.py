"""Optuna's pruners, and what they stored on the trials of an earlier process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.study.settings import Settings


def make_pruner(settings: Settings) -> optuna.pruners.BasePruner:
    """Return the pruner; its resource is optimizer steps."""
    segment = max(1, settings.steps // settings.segments)
    if settings.pruner == "median":
        # Prunes from the first report on: docs/log.md, 2026-11-23.
        return optuna.pruners.MedianPruner(n_startup_trials=5)
    if settings.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=_first_rung(settings), reduction_factor=2
        )
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=segment, max_resource=settings.steps)
    return optuna.pruners.NopPruner()


def _first_rung(settings: Settings) -> int:
    """Return the step at which halving compares trials first; it doubles from rung to rung."""
    return max(1, settings.steps // 10)


def decides(settings: Settings, spec: TrialSpec, segment: int) -> bool:
    """Return whether the pruner compares a trial with others after a segment, counted from 1."""
    if settings.pruner == "none":
        return False
    if settings.pruner != "halving":
        return True
    before, after = (
        (spec.segment_end(number) // _first_rung(settings)).bit_length()
        for number in (segment - 1, segment)
    )
    return after > before


class LoneTrials:
    """Computes what a pruner stores on a trial, as if the trial passed every rung.

    The pruner is asked in a study without other trials, in which nothing is pruned.
    """

    def __init__(self, name: str, pruner: optuna.pruners.BasePruner) -> None:
        """Prepare the study.

        Args:
            name: name of the study, from which Hyperband draws a trial's bracket.
            pruner: the pruner.
        """
        self._pruner = pruner
        self._storage = _AttrsOfOne()
        self._storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
        self._study = optuna.Study(name, self._storage)

    def attrs(self, number: int, losses: Mapping[int, float]) -> dict[str, Any]:
        """Return the attributes that the pruner stores on a trial: its loss at each rung.

        Args:
            number: the trial's number.
            losses: its dev losses that were compared, in nats per character, by step.
        """
        if not isinstance(
            self._pruner, optuna.pruners.SuccessiveHalvingPruner | optuna.pruners.HyperbandPruner
        ):
            return {}
        trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
        trial.number = number
        self._storage.attrs = trial.system_attrs = {}
        for step, loss in losses.items():
            trial.intermediate_values[step] = loss
            self._pruner.prune(self._study, trial)
        return self._storage.attrs


class _AttrsOfOne(optuna.storages.InMemoryStorage):
    """Keeps the attributes of one trial, which is not in the study."""

    attrs: dict[str, Any]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:  # noqa: ARG002 (the base class's)
        self.attrs[key] = value


def new_study(
    name: str, pruner: optuna.pruners.BasePruner | None = None
) -> tuple[optuna.Study, optuna.storages.InMemoryStorage, int]:
    """Create a study in memory; return it with its storage and its id there."""
    storage = optuna.storages.InMemoryStorage()
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
    return optuna.Study(name, storage, pruner=pruner), storage, study_id
