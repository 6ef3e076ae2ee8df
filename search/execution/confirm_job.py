"""The job of `mmsearch confirm`: the best trials, trained again from fresh seeds."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import RefusedError
from mmsearch.search.protocols import Proposal
from mmsearch.search.results.selection import Plan, confirmations, leading, repeats
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal.records import Outcome, TrialState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.study.session import Session
    from mmsearch.search.study.settings import Settings
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord


def make_plan(journal: Journal, top: int, n_seeds: int, steps: int) -> Plan:
    """Plan a confirmation of the best complete trials of a study.

    Raises:
        RefusedError: no trial is complete.
        JournalError: a file is damaged, which may be that of the last plan.
    """
    Plan.read(journal)
    best = leading(journal.records(), top)
    if not best:
        raise RefusedError(
            f"study {journal.name!r} has no complete trial to confirm; go on with: mmsearch run"
            f"{options_of(journal)}"
        )
    trials = tuple(record.number for record in best)
    return Plan(top=top, trials=trials, n_seeds=n_seeds, steps=steps)


def confirm_seed(study_seed: int, nth: int) -> int:
    """Return the 32-bit seed of every candidate's nth training (from 1).

    All candidates share it and see the same minibatches, so that less of their difference is
    chance. It is not the seed of any trial of the search, except by coincidence.
    """
    return int(np.random.SeedSequence([study_seed, nth, 2]).generate_state(1)[0])


@dataclass(frozen=True, slots=True)
class Confirm:
    """The job of `mmsearch confirm`.

    Raises:
        InputError: the plan's steps are too few for the study's settings.
    """

    session: Session
    plan: Plan

    def __post_init__(self) -> None:
        _ = self.settings  # checks the steps

    @property
    def journal(self) -> Journal:
        """The journal of the trainings."""
        return confirmations(self.session.journal)

    @property
    def settings(self) -> Settings:
        """The study's settings with the plan's steps."""
        return dataclasses.replace(self.session.file.settings, steps=self.plan.steps)

    @property
    def n_trials(self) -> int:
        """Number of trainings that the plan asks for."""
        return len(self.plan.trials) * self.plan.n_seeds

    @property
    def n_lanes(self) -> None:
        """None: no training depends on another one."""

    def decides(self, spec: TrialSpec, segment: int) -> bool:
        """Return False: no training is pruned."""
        del spec, segment
        return False

    @property
    def initial_weights(self) -> bytes | None:
        """None: each training draws its own first weights."""
        return None

    def records(self) -> list[TrialRecord]:
        """Read the trainings that the plan asks for and that have begun."""
        found = repeats(self.session.journal, self.plan).values()
        return sorted(found, key=lambda record: record.number)

    def n_left(self, records: Sequence[TrialRecord]) -> int:
        """Count the trainings that are not finished yet."""
        return self.n_trials - sum(record.outcome is not None for record in records)

    def view(self) -> None:
        """Return None: trainings from fresh seeds are not trials of the Optuna study."""

    def begin(self) -> None:
        """Do nothing: the study has begun."""

    def withdraw(self) -> None:
        """Do nothing: `begin` did nothing."""

    def propose(
        self, records: Sequence[TrialRecord], enqueued: Iterable[Mapping[str, Any]]
    ) -> PlannedTrainings:
        """Write the plan, prune what only an earlier plan asked for, and propose the rest."""
        del enqueued  # nobody can enqueue a training
        return propose_trainings(self.session.journal, self.plan, self.settings, records)


def propose_trainings(
    journal: Journal, plan: Plan, settings: Settings, records: Sequence[TrialRecord]
) -> PlannedTrainings:
    """Write a plan, prune the trainings that only an earlier plan asked for, and propose the rest.

    Args:
        journal: the study's journal.
        plan: the plan.
        settings: the settings of each training.
        records: the plan's trainings that have begun.
    """
    journal.write_plan(plan.to_json())
    trainings = confirmations(journal)
    numbers = trainings.numbers()
    wanted = {record.number for record in records}
    for number in numbers:
        if number not in wanted and not trainings.has_ended(number):
            outcome = Outcome(
                state=TrialState.PRUNED,
                reason="given up: no longer asked for",
                ended_ms=time.time_ns() // 1_000_000,
            )
            trainings.finish(number, outcome)
    begun = {(record.facts["trial"], record.facts["nth_seed"]) for record in records}
    # All candidates from one seed, then all of them from the next.
    missing = [
        (trial, nth)
        for nth in range(1, plan.n_seeds + 1)
        for trial in plan.trials
        if (trial, nth) not in begun
    ]
    specs = {trial: journal.read(trial).spec for trial in {trial for trial, _ in missing}}
    first = max(numbers, default=-1) + 1
    return PlannedTrainings(
        Proposal(
            number=number,
            point={name: getattr(specs[trial], name) for name in settings.space.dimensions},
            seed=confirm_seed(settings.seed, nth),
            facts={"trial": trial, "nth_seed": nth},
        )
        for number, (trial, nth) in enumerate(missing, start=first)
    )


class PlannedTrainings:
    """Proposes given trainings, those of a confirmation or an extension, and prunes none."""

    def __init__(self, proposals: Iterable[Proposal]) -> None:
        self._proposals = iter(proposals)

    def ask(self) -> Proposal | None:
        """Propose the next training."""
        return next(self._proposals, None)

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Do nothing: the journal has the loss."""

    def should_prune(self, number: int) -> bool:
        """Return False: a mean over only the seeds that did well would be too low."""
        del number
        return False

    def tell(self, record: TrialRecord) -> None:
        """Do nothing: the journal has the outcome."""
