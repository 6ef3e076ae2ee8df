"""The Optuna study in memory that proposes and prunes trials."""

from __future__ import annotations

import copy
import heapq
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from mmsearch.search.optimizer.pruners import LoneTrials, make_pruner, new_study
from mmsearch.search.optimizer.samplers import distributions, make_sampler, trial_seed
from mmsearch.search.protocols import Proposal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from optuna.distributions import BaseDistribution

    from mmsearch.search.study.settings import Settings
    from mmsearch.tracking.journal.records import TrialRecord

BLOCK, N_BEST = 256, 50
"""Number of recent and of best trials that the sampler learns from: see `OptunaProposer`."""
REASON = "mmsearch.reason"
"""User attribute of a trial with the reason why it was pruned or failed."""
ENQUEUED = "enqueued"
"""Key of a trial's facts in the journal: the enqueued configuration it started from, or None."""
RUNNING = "running"
"""Key of a trial's facts: the numbers of the trials that were running when it was proposed."""
DIGITS = 5
"""Decimals of the dev losses that decisions are made from, so that another processor's rounding
seldom changes one."""


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
        enqueued: Iterable[Mapping[str, Any] | None] = (),
    ) -> None:
        """Build the studies.

        Args:
            name: the study's name, from which Hyperband draws each trial's bracket.
            settings: the sampler, pruner, space and seed.
            records: the trials of the journal, by number.
            enqueued: configurations to try first, None for one of the sampler's; it also draws the
                values that they lack.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._settings = settings
        self._distributions = distributions(settings.space)
        self._pruner = make_pruner(settings)
        self._lone = LoneTrials(name, self._pruner)
        self._queue = deque(enqueued)
        self.study, self._storage, self._study_id = new_study(name, self._pruner)
        records = list(records)
        self._running = {record.number for record in records if record.outcome is None}
        n_trials = 0
        for record in records:
            for _ in range(n_trials, record.number):
                # A trial whose files are missing keeps its number.
                lost = optuna.trial.create_trial(state=TrialState.FAIL)
                self._storage.create_new_trial(self._study_id, lost)
            n_trials = record.number + 1
            trial = frozen_trial(record, self._distributions, _rounded)
            losses = dict(trial.intermediate_values)
            if record.is_complete:  # the pruner is not asked about its last report
                losses.popitem()
            trial.system_attrs = self._lone.attrs(record.number, losses)
            self._storage.create_new_trial(self._study_id, trial)
        first = next((r for r in records if r.number == self._first_of_block()), None)
        self._renew_sampled(first.facts.get(RUNNING, ()) if first else self._running)

    @property
    def n_trials(self) -> int:
        """Number of trials so far, which is the next trial's number."""
        return self._storage.get_n_trials(self._study_id)

    def ask(self) -> Proposal:
        """Propose the next trial."""
        number = self.n_trials
        if number == self._first_of_block():
            self._renew_sampled(self._running)
        # A new sampler for each trial, seeded by the study's seed and the trial's number, so that a
        # resumed study proposes what an uninterrupted one would.
        self._sampled.sampler = make_sampler(self._settings, number)
        fixed = self._queue.popleft() if self._queue else None
        if fixed is not None:
            self._sampled.enqueue_trial(dict(fixed))
        trial = self._sampled.ask(self._distributions)
        self._places[number] = trial.number
        running = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=trial.params, distributions=self._distributions
        )
        self._storage.create_new_trial(self._study_id, running)
        facts = {ENQUEUED: fixed and dict(fixed), RUNNING: sorted(self._running)}
        self._running.add(number)
        fixed_seed = self._settings.training_seed
        return Proposal(
            number=number,
            point=trial.params,
            seed=trial_seed(self._settings.seed, number) if fixed_seed < 0 else fixed_seed,
            facts=facts,
        )

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Set a trial's intermediate value."""
        dev_loss = _rounded(dev_loss)
        self._storage.set_trial_intermediate_value(self._id(number), step, dev_loss)
        if number in self._places:
            storage, trial_id = self._sampled_storage, self._sampled_id(number)
            storage.set_trial_intermediate_value(trial_id, step, dev_loss)

    def should_prune(self, number: int) -> bool:
        """Return whether the pruner ends the trial at its latest report."""
        trial = self._storage.get_trial(self._id(number))
        is_pruned = self._pruner.prune(self.study, trial)
        if is_pruned:
            # As if it had reached every rung up to this step, for the journal cannot tell later
            # which of two rungs between two reports it has failed at.
            for name, value in self._lone.attrs(number, trial.intermediate_values).items():
                self._storage.set_trial_system_attr(self._id(number), name, value)
        return is_pruned

    def tell(self, record: TrialRecord) -> None:
        """Finish a trial."""
        self._running.discard(record.number)
        dev_loss = record.dev_loss if record.is_complete else None
        score = None if dev_loss is None else _rounded(dev_loss)
        self.study.tell(record.number, score, state=TrialState[record.state])
        if record.number in self._places:
            place = self._places[record.number]
            self._sampled.tell(place, score, state=TrialState[record.state])

    def _first_of_block(self) -> int:
        return self.n_trials // BLOCK * BLOCK

    def _renew_sampled(self, running_then: Collection[int]) -> None:
        """Rebuild the sampler's study for the block of the next trial.

        Args:
            running_then: trials that were running when the block began.
        """
        self._sampled, self._sampled_storage, self._sampled_study = new_study("sampled")
        self._places: dict[int, int] = {}
        """Number of each trial in the sampler's study, by its own number."""
        trials = self.study.get_trials(deepcopy=False)
        first = self._first_of_block() - BLOCK
        older = [trial for trial in trials[: max(0, first)] if trial.params]
        running = [trial for trial in older if trial.number in running_then]
        ended = [trial for trial in older if trial.number not in running_then]
        complete = (trial for trial in ended if trial.state == TrialState.COMPLETE)
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


def frozen_trial(
    record: TrialRecord,
    searched: Mapping[str, BaseDistribution],
    rounded: Callable[[float], float] = float,
) -> optuna.trial.FrozenTrial:
    """Return a trial of the journal as an Optuna trial.

    Args:
        record: the trial.
        searched: distributions of the hyperparameters, by name.
        rounded: rounds its dev losses.
    """
    spec, outcome = record.spec, record.outcome
    state = TrialState[record.state]
    value = None
    if record.curve and state in {TrialState.COMPLETE, TrialState.PRUNED}:
        # A pruned trial's value is its last intermediate value, as in Optuna.
        value = record.dev_loss if record.is_complete else record.curve[-1].dev_loss
    return _Template(
        number=record.number,
        trial_id=-1,  # set by the storage that it is added to
        state=state,
        value=None if value is None else rounded(value),
        datetime_start=datetime.fromtimestamp(record.facts["started_ms"] / 1000),  # noqa: DTZ006 (Optuna uses local times)
        datetime_complete=(
            datetime.fromtimestamp(outcome.ended_ms / 1000) if outcome else None  # noqa: DTZ006 (likewise)
        ),
        params={name: getattr(spec, name) for name in searched},
        distributions=dict(searched),
        user_attrs={REASON: outcome.reason} if outcome and outcome.reason else {},
        system_attrs={},
        intermediate_values={line.step: rounded(line.dev_loss) for line in record.curve},
    )


def _rounded(dev_loss: float) -> float:
    """Round a dev loss as decisions are made from it."""
    return round(dev_loss, DIGITS)


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


class _Template(optuna.trial.FrozenTrial):
    """A trial whose copies share its dicts, which Optuna's storage in memory never changes.

    Optuna 5 replaces the whole dict for each new value, and each frozen trial that it hands out to
    be changed is a copy of its own making.
    """

    def __deepcopy__(self, memo: object) -> _Template:
        return copy.copy(self)
