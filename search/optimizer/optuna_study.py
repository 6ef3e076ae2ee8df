"""The Optuna study in memory that proposes and prunes trials."""

from __future__ import annotations

import copy
import heapq
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from mmsearch.search.protocols import Proposal
from mmsearch.search.study.space import Choices
from mmsearch.tracking.journal.records import undecided

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from optuna.trial import FrozenTrial

    from mmsearch.search.study.settings import Settings
    from mmsearch.search.study.space import Dimension, Space
    from mmsearch.tracking.journal.records import TrialRecord

BLOCK, N_BEST = 256, 50
"""Number of recent and of best trials that the sampler learns from: see `OptunaProposer`."""
REASON = "mmsearch.reason"
"""User attribute of a trial with the reason why it was pruned or failed."""
ENQUEUED = "enqueued"
"""Key of a trial's facts in the journal: the enqueued configuration it started from, or None."""


class OptunaProposer:
    """Proposes and prunes trials with Optuna studies in memory that are rebuilt from the journal.

    The pruner compares a trial with all others. The sampler has a smaller study of its own, since
    the time of a proposal grows with the number of trials and old ones add little. For each block
    of `BLOCK` trials it learns from that block, the block before, and of the older trials from the
    `N_BEST` best that were complete and all that were running when the block began.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        records: Iterable[TrialRecord] = (),
        enqueued: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Build the studies.

        Args:
            name: the study's name, from which Hyperband draws each trial's bracket.
            settings: the sampler, pruner, space and seed.
            records: the trials of the journal, by number.
            enqueued: configurations to try first; the sampler draws the values that they lack.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._settings = settings
        self._distributions = distributions(settings.space)
        self._pruner = make_pruner(settings)
        self._queue = deque(enqueued)
        self.study, self._storage, self._study_id = _new_study(name, self._pruner)
        records = list(records)
        last = undecided(records)
        for record in records:
            while self.n_trials < record.number:
                # A trial whose files are missing keeps its number.
                lost = optuna.trial.create_trial(state=TrialState.FAIL)
                self._storage.create_new_trial(self._study_id, lost)
            trial = frozen_trial(record, self._distributions)
            trial.system_attrs = self._pruner_attrs(record, is_decided=record is not last)
            self._storage.create_new_trial(self._study_id, trial)
        began = {record.number: record.facts["started_ms"] for record in records}
        self._renew_sampled(began.get(self._first_of_block()), records)

    @property
    def n_trials(self) -> int:
        """Number of trials so far, which is the next trial's number."""
        return self._storage.get_n_trials(self._study_id)

    def ask(self) -> Proposal:
        """Propose the next trial."""
        number = self.n_trials
        if number == self._first_of_block():
            self._renew_sampled(None, ())
        # A new sampler for each trial, seeded by the study's seed and the trial's number, so that a
        # resumed study proposes what an uninterrupted one would.
        self._sampled.sampler = make_sampler(self._settings, number)
        fixed = dict(self._queue.popleft()) if self._queue else None
        if fixed is not None:
            self._sampled.enqueue_trial(fixed)
        trial = self._sampled.ask(self._distributions)
        self._places[number] = trial.number
        running = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=trial.params, distributions=self._distributions
        )
        self._storage.create_new_trial(self._study_id, running)
        return Proposal(
            number=number,
            point=trial.params,
            seed=trial_seed(self._settings.seed, number),
            facts={ENQUEUED: fixed},
        )

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Set a trial's intermediate value."""
        self._storage.set_trial_intermediate_value(self._id(number), step, dev_loss)
        if number in self._places:
            storage, trial_id = self._sampled_storage, self._sampled_id(number)
            storage.set_trial_intermediate_value(trial_id, step, dev_loss)

    def should_prune(self, number: int) -> bool:
        """Return whether the pruner ends the trial at its latest report."""
        return self._pruner.prune(self.study, self._storage.get_trial(self._id(number)))

    def tell(self, record: TrialRecord) -> None:
        """Finish a trial."""
        score = record.dev_loss if record.is_complete else None
        self.study.tell(record.number, score, state=TrialState[record.state])
        if record.number in self._places:
            place = self._places[record.number]
            self._sampled.tell(place, score, state=TrialState[record.state])

    def _first_of_block(self) -> int:
        return self.n_trials // BLOCK * BLOCK

    def _renew_sampled(self, began_ms: int | None, records: Sequence[TrialRecord]) -> None:
        """Rebuild the sampler's study for the block of the next trial.

        Args:
            began_ms: Unix time at which the block's first trial began; None for now.
            records: all trials, needed if the block began earlier.
        """
        self._sampled, self._sampled_storage, self._sampled_study = _new_study("sampled", None)
        self._places: dict[int, int] = {}
        """Number of each trial in the sampler's study, by its own number."""
        trials = self.study.get_trials(deepcopy=False)
        first = self._first_of_block() - BLOCK
        later = {
            r.number for r in records if began_ms and r.outcome and r.outcome.ended_ms > began_ms
        }
        older = [trial for trial in trials[: max(0, first)] if trial.params]
        running = [t for t in older if not t.state.is_finished() or t.number in later]
        complete = (t for t in older if t.state == TrialState.COMPLETE and t.number not in later)
        best = heapq.nsmallest(N_BEST, complete, key=lambda trial: (trial.value, trial.number))
        chosen = sorted([*best, *running], key=lambda trial: trial.number)
        for trial in [*chosen, *trials[max(0, first) :]]:
            number = trial.number
            self._places[number] = len(self._places)
            self._sampled_storage.create_new_trial(self._sampled_study, trial)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _sampled_id(self, number: int) -> int:
        return self._sampled_storage.get_trial_id_from_study_id_trial_number(
            self._sampled_study, self._places[number]
        )

    def _pruner_attrs(self, record: TrialRecord, *, is_decided: bool) -> dict[str, Any]:
        """Return the attributes that the pruner stored on a trial: its loss at each rung.

        They are recomputed in a study with only this trial, where it passes every rung. The pruner
        was not asked about the last report of a complete trial, and perhaps not about that of an
        undecided trial.
        """
        if not isinstance(
            self._pruner, optuna.pruners.SuccessiveHalvingPruner | optuna.pruners.HyperbandPruner
        ):
            return {}
        alone, storage, study_id = _new_study(self.study.study_name, None)
        trial_id = storage.create_new_trial(study_id)
        is_last_asked = is_decided and not record.is_complete
        for segment in record.curve if is_last_asked else record.curve[:-1]:
            storage.set_trial_intermediate_value(trial_id, segment.step, segment.dev_loss)
            trial = copy.copy(storage.get_trial(trial_id))
            trial.number = record.number
            self._pruner.prune(alone, trial)
        return storage.get_trial(trial_id).system_attrs


def _new_study(
    name: str, pruner: optuna.pruners.BasePruner | None
) -> tuple[optuna.Study, optuna.storages.InMemoryStorage, int]:
    """Create a study in memory; return it with its storage and its id there."""
    storage = optuna.storages.InMemoryStorage()
    study_id = storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], name)
    return optuna.Study(name, storage, pruner=pruner), storage, study_id


def frozen_trial(
    record: TrialRecord, searched: Mapping[str, BaseDistribution]
) -> optuna.trial.FrozenTrial:
    """Return a trial of the journal as an Optuna trial.

    Args:
        record: the trial.
        searched: distributions of the hyperparameters, by name.
    """
    spec, outcome = record.spec, record.outcome
    state = TrialState[record.state]
    value = None
    if record.curve and state in {TrialState.COMPLETE, TrialState.PRUNED}:
        # A pruned trial's value is its last intermediate value, as in Optuna.
        value = record.dev_loss if record.is_complete else record.curve[-1].dev_loss
    return optuna.trial.FrozenTrial(
        number=record.number,
        trial_id=-1,  # set by the storage that it is added to
        state=state,
        value=value,
        datetime_start=datetime.fromtimestamp(record.facts["started_ms"] / 1000),  # noqa: DTZ006 (Optuna uses local times)
        datetime_complete=(
            datetime.fromtimestamp(outcome.ended_ms / 1000) if outcome else None  # noqa: DTZ006 (likewise)
        ),
        params={name: getattr(spec, name) for name in searched},
        distributions=_Shared(searched),
        user_attrs={REASON: outcome.reason} if outcome and outcome.reason else {},
        system_attrs={},
        intermediate_values={segment.step: segment.dev_loss for segment in record.curve},
    )


def not_begun(
    points: Iterable[Mapping[str, Any]], records: Iterable[TrialRecord]
) -> list[Mapping[str, Any]]:
    """Return the configurations that no trial started from yet, each once.

    Trials of version 0.1 do not record this, so a trial with equal values counts.
    """
    recorded: list[Mapping[str, Any]] = []
    unrecorded: list[Mapping[str, Any]] = []
    for record in records:
        if ENQUEUED not in record.facts:
            unrecorded.append(record.spec.to_json())
        elif record.facts[ENQUEUED] is not None:
            recorded.append(record.facts[ENQUEUED])
    fresh: list[Mapping[str, Any]] = []
    for point in map(dict, points):
        is_begun = point in recorded or any(point.items() <= spec.items() for spec in unrecorded)
        if not is_begun and point not in fresh:
            fresh.append(point)
    return fresh


def trial_seed(study_seed: int, number: int) -> int:
    """Return the 32-bit seed of a trial's training."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


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


class _Shared(dict[str, BaseDistribution]):
    """Distributions that all trials share; copying them for each trial would take seconds."""

    def __deepcopy__(self, memo: object) -> _Shared:
        return self


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


def make_sampler(settings: Settings, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for one trial."""
    # Independent of the seed of the trial's training.
    seed = int(np.random.SeedSequence([settings.seed, number, 1]).generate_state(1)[0])
    if settings.sampler == "tpe":
        return _TPESampler(settings.space, seed)
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def make_pruner(settings: Settings) -> optuna.pruners.BasePruner:
    """Return the pruner; its resource is optimizer steps."""
    segment = max(1, settings.steps // settings.segments)
    if settings.pruner == "median":
        # Prunes from the first report on: docs/log.md, 2026-11-23.
        return optuna.pruners.MedianPruner(n_startup_trials=5)
    if settings.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=max(1, settings.steps // 10), reduction_factor=2
        )
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=segment, max_resource=settings.steps)
    return optuna.pruners.NopPruner()
