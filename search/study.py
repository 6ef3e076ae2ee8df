"""The sampler and the pruner of a study, in an Optuna study that is kept in memory."""

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

from mmsearch.model.spec import TrialSpec
from mmsearch.search.coordinator import Proposal
from mmsearch.search.space import Choices
from mmsearch.tracking.journal import undecided

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from optuna.trial import FrozenTrial

    from mmsearch.search.settings import Settings
    from mmsearch.search.space import Dimension, Space
    from mmsearch.tracking.journal import TrialRecord

N_LATEST, N_BEST = 256, 50
"""Of a large study, what TPE learns from: see `OptunaProposer`."""
REASON = "mmsearch.reason"
"""User attribute of a trial: why it was pruned or failed."""
ENQUEUED = "enqueued"
"""Fact of a trial in the journal: the configuration that it was begun with, None for a proposal
that is the sampler's alone."""


class OptunaProposer:
    """Proposes trials by an Optuna study that lives in memory and follows from the journal.

    A killed search is taken up from the journal alone, whatever a database knows of it.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        records: Iterable[TrialRecord] = (),
        enqueued: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Build the study.

        Args:
            name: the study's name, from which Hyperband draws each trial's bracket.
            settings: the sampler, pruner, space and seed.
            records: the journal's trials by number; the RUNNING ones go on.
            enqueued: configurations to try before the sampler's own proposals. The sampler draws
                what they leave open.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._settings = settings
        self._distributions = distributions(settings.space)
        self._storage = optuna.storages.InMemoryStorage()
        self._pruner = make_pruner(settings)
        self.study = optuna.create_study(
            study_name=name, storage=self._storage, direction="minimize", pruner=self._pruner
        )
        self._study_id = self._storage.get_study_id_from_name(name)
        self._queue = deque(enqueued)
        self._learnt: tuple[optuna.Study, list[int]] | None = None
        """What TPE learns from in a large study, and the numbers of the trials in it."""
        records = list(records)
        last = undecided(records)
        for record in records:
            while self.n_trials < record.number:
                # A trial whose files are gone keeps its number.
                self.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
            trial = frozen_trial(record, self._distributions)
            trial.system_attrs = self._pruner_attrs(record, is_decided=record is not last)
            self.study.add_trial(trial)

    @property
    def n_trials(self) -> int:
        """Number of trials begun so far, which is the next trial's number."""
        return self._storage.get_n_trials(self._study_id)

    def ask(self) -> Proposal:
        """Propose the next trial."""
        # A sampler of its own for each trial: what it draws follows from the seed and the trial's
        # number, so that a resumed study proposes what an undisturbed one would have.
        sampler = make_sampler(self._settings, self.n_trials)
        if isinstance(sampler, _TPESampler):
            sampler.learnt_from = self._learnt_from()
        self.study.sampler = sampler
        fixed = dict(self._queue.popleft()) if self._queue else None
        if fixed is not None:
            self.study.enqueue_trial(fixed)
        trial = self.study.ask(self._distributions)
        return Proposal(
            number=trial.number,
            point=trial.params,
            seed=trial_seed(self._settings.seed, trial.number),
            facts={ENQUEUED: fixed},
        )

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Set a trial's intermediate value."""
        self._storage.set_trial_intermediate_value(self._id(number), step, dev_loss)

    def should_prune(self, number: int) -> bool:
        """Return whether the pruner would end the trial at its latest report."""
        return self._pruner.prune(self.study, self._storage.get_trial(self._id(number)))

    def tell(self, record: TrialRecord) -> None:
        """Close a trial that has ended."""
        score = record.dev_loss if record.state == "COMPLETE" else None
        self.study.tell(record.number, score, state=TrialState[record.state])

    def _learnt_from(self) -> optuna.Study:
        """Return the study that TPE learns from.

        Its time grows with the trials, and thousands of old ones tell it little: beyond
        `2 * N_LATEST` it learns from the latest, from `N_LATEST` to twice as many, and from the
        best of the others. Which ones follows from the number of trials and from their ends alone.
        """
        ended = self.study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)
        )
        if len(ended) <= 2 * N_LATEST:
            return self.study
        first = (self.n_trials // N_LATEST - 1) * N_LATEST
        older = (t for t in ended if t.number < first and t.state == TrialState.COMPLETE)
        chosen = heapq.nsmallest(N_BEST, older, key=lambda t: (t.value, t.number))
        chosen += (trial for trial in ended if trial.number >= first)
        # In the order of their ends, so that most often only new ones are to be added.
        chosen.sort(key=lambda trial: (trial.datetime_complete, trial.number))
        numbers = [trial.number for trial in chosen]
        if self._learnt is None or numbers[: len(self._learnt[1])] != self._learnt[1]:
            self._learnt = optuna.create_study(direction="minimize"), []
        study, known = self._learnt
        for trial in chosen[len(known) :]:
            study.add_trial(trial)
            known.append(trial.number)
        return study

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _pruner_attrs(self, record: TrialRecord, *, is_decided: bool) -> dict[str, Any]:
        """Return what the pruner had noted on a trial: for halving, its loss at each rung.

        The pruner is asked anew with the trial alone in a study, where it passes every rung. It
        had not been asked about the last report of a complete trial, and may not have been asked
        about that of a trial that is not decided.
        """
        if not isinstance(
            self._pruner, optuna.pruners.SuccessiveHalvingPruner | optuna.pruners.HyperbandPruner
        ):
            return {}
        storage, name = optuna.storages.InMemoryStorage(), self.study.study_name
        trial_id = storage.create_new_trial(storage.create_new_study(self.study.directions, name))
        alone = optuna.Study(name, storage)
        is_last_asked = is_decided and record.state != "COMPLETE"
        for segment in record.curve if is_last_asked else record.curve[:-1]:
            storage.set_trial_intermediate_value(trial_id, segment.step, segment.dev_loss)
            trial = copy.copy(storage.get_trial(trial_id))
            trial.number = record.number
            self._pruner.prune(alone, trial)
        return storage.get_trial(trial_id).system_attrs


def frozen_trial(
    record: TrialRecord, searched: Mapping[str, BaseDistribution]
) -> optuna.trial.FrozenTrial:
    """Return a trial of the journal as Optuna holds it.

    Args:
        record: the trial.
        searched: the distributions of the hyperparameters, by name.
    """
    spec, outcome = record.spec, record.outcome
    if not searched.keys() <= spec.keys():  # a spec of an earlier version
        spec = TrialSpec.from_json(spec).to_json()
    value = None
    if record.curve and record.state in {"COMPLETE", "PRUNED"}:
        # As Optuna itself sets it, a pruned trial's value is its latest intermediate value.
        value = record.dev_loss if record.state == "COMPLETE" else record.curve[-1].dev_loss
    return optuna.trial.FrozenTrial(
        number=record.number,
        trial_id=-1,  # set by the storage that it is added to
        state=TrialState[record.state],
        value=value,
        datetime_start=datetime.fromtimestamp(record.facts["started_ms"] / 1000),  # noqa: DTZ006 (Optuna's are local)
        datetime_complete=(
            datetime.fromtimestamp(outcome.ended_ms / 1000) if outcome else None  # noqa: DTZ006 (likewise)
        ),
        params={name: spec[name] for name in searched},
        distributions=_Shared(searched),
        user_attrs={REASON: outcome.reason} if outcome and outcome.reason else {},
        system_attrs={},
        intermediate_values={segment.step: segment.dev_loss for segment in record.curve},
    )


def not_begun(
    points: Iterable[Mapping[str, Any]], records: Iterable[TrialRecord]
) -> list[Mapping[str, Any]]:
    """Return the configurations that no trial was begun with yet, each once.

    A trial of version 0.1 does not say what was enqueued: there, equal values count.
    """
    told: list[Mapping[str, Any]] = []
    silent: list[Mapping[str, Any]] = []
    for record in records:
        if ENQUEUED not in record.facts:
            silent.append(record.spec)
        elif record.facts[ENQUEUED] is not None:
            told.append(record.facts[ENQUEUED])
    fresh: list[Mapping[str, Any]] = []
    for point in map(dict, points):
        is_begun = point in told or any(point.items() <= spec.items() for spec in silent)
        if not is_begun and point not in fresh:
            fresh.append(point)
    return fresh


def trial_seed(study_seed: int, number: int) -> int:
    """Return the seed of one trial's training, 32 bits; two trials share one only by chance."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0])


class _TPESampler(optuna.samplers.TPESampler):
    """TPE that is told its space, which it would otherwise infer from all trials each time."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed)
        self.learnt_from: optuna.Study | None = None
        """A study to learn from instead of the one that it proposes for."""
        # By name, as inferred: it draws in this order.
        self._distributions = {
            name: distribution(dimension)
            for name, dimension in sorted(space.dimensions.items())
            if not dimension.is_fixed
        }

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the distributions of what is searched."""
        del study, trial
        return self._distributions

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Propose values by the trials so far."""
        return super().sample_relative(self.learnt_from or study, trial, search_space)


class _Shared(dict[str, BaseDistribution]):
    """Distributions that no trial changes; to copy those of all trials would take seconds."""

    def __deepcopy__(self, memo: object) -> _Shared:
        return self


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distributions of all hyperparameters, the fixed ones too."""
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
    """Make the sampler that proposes trial `number`."""
    # One stream beside the trial's own.
    seed = int(np.random.SeedSequence([settings.seed, number, 1]).generate_state(1)[0])
    if settings.sampler == "tpe":
        return _TPESampler(settings.space, seed)
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
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
