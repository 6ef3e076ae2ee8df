"""The best trials trained again from fresh seeds, as the coordinator sees it."""

from __future__ import annotations

import dataclasses
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import RefusedError
from mmsearch.search.protocols import Proposal
from mmsearch.search.results.selection import Plan, confirmations, leading, repeats
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
    """Choose what to confirm: the best complete trials of a study.

    Raises:
        RefusedError: no trial is complete.
        JournalError: a file is damaged, the last plan's among them: it will be replaced.
    """
    Plan.read(journal)
    best = leading(journal.records(), top)
    if not best:
        raise RefusedError(
            f"study {journal.name!r} has no complete trial to confirm; go on with: mmsearch run "
            f"--study {journal.name}"
        )
    trials = tuple(record.number for record in best)
    return Plan(top=top, trials=trials, n_seeds=n_seeds, steps=steps)


def confirm_seed(study_seed: int, nth: int) -> int:
    """Seed of the nth training (from 1) of every candidate, 32 bits.

    All candidates share it: they see the same minibatches, so that they differ by what they are
    and less by luck. No trial of the search has it but by chance.
    """
    return int(np.random.SeedSequence([study_seed, nth, 2]).generate_state(1)[0])


@dataclass(frozen=True, slots=True)
class Confirm:
    """The job of `mmsearch confirm`.

    Raises:
        InputError: the plan's steps do not go with the study's settings.
    """

    session: Session
    plan: Plan

    def __post_init__(self) -> None:
        _ = self.settings  # to make them is to check them

    @property
    def journal(self) -> Journal:
        """Where its trainings are."""
        return confirmations(self.session.journal)

    @property
    def settings(self) -> Settings:
        """The study's, but for the steps."""
        return dataclasses.replace(self.session.file.settings, steps=self.plan.steps)

    @property
    def n_trials(self) -> int:
        """Trainings that the plan asks for."""
        return len(self.plan.trials) * self.plan.n_seeds

    def records(self) -> list[TrialRecord]:
        """Read the trainings that the plan asks for and that have begun."""
        found = repeats(self.session.journal, self.plan).values()
        return sorted(found, key=lambda record: record.number)

    def n_left(self, records: Sequence[TrialRecord]) -> int:
        """Count the trainings that are left."""
        return self.n_trials - sum(record.outcome is not None for record in records)

    def view(self) -> None:
        """Make nothing: fresh seeds are no trials of Optuna's."""

    def begin(self) -> None:
        """Do nothing: the study has begun."""

    def withdraw(self) -> None:
        """Do nothing, likewise."""

    def propose(
        self,
        records: Sequence[TrialRecord],
        enqueued: Iterable[Mapping[str, Any]],
        *,
        has_view: bool = True,
    ) -> Repeats:
        """Write the plan, and propose what is left of it."""
        del enqueued, has_view  # nobody enqueues a training
        return Repeats.begin(self.session.journal, self.plan, self.settings, records)


class Repeats:
    """Proposes candidates from fresh seeds: first all of them from one seed, then from the next."""

    def __init__(
        self,
        settings: Settings,
        specs: Mapping[int, TrialSpec],
        left: Iterable[tuple[int, int]],
        first: int,
    ) -> None:
        """Prepare them.

        Args:
            settings: what each is trained by.
            specs: of the candidates, by their numbers in the search.
            left: what is to be trained: a candidate's number, and which seed, counted from 1.
            first: number of the first of these trainings.
        """
        self._settings = settings
        self._specs = specs
        self._left = iter(left)
        self._numbers = itertools.count(first)

    @classmethod
    def begin(
        cls, journal: Journal, plan: Plan, settings: Settings, records: Iterable[TrialRecord]
    ) -> Repeats:
        """Write a plan, and give up what an earlier one began and this one does not want.

        Args:
            journal: of the study's trials.
            plan: what is to be trained.
            settings: what each training is trained by.
            records: the plan's trainings that have begun.
        """
        journal.write_plan(plan.to_json())
        trainings = confirmations(journal)
        wanted = {record.number for record in records}
        numbers = trainings.numbers()
        for number in numbers:
            if number not in wanted and not trainings.has_ended(number):
                given_up = Outcome(
                    state=TrialState.PRUNED,
                    reason="given up: no longer asked for",
                    ended_ms=time.time_ns() // 1_000_000,
                )
                trainings.finish(number, given_up)
        begun = {(record.facts["trial"], record.facts["nth_seed"]) for record in records}
        left = [
            (trial, nth)
            for nth in range(1, plan.n_seeds + 1)
            for trial in plan.trials
            if (trial, nth) not in begun
        ]
        specs = {
            number: journal.read(number).spec for number in sorted({trial for trial, _ in left})
        }
        return cls(settings, specs, left, first=max(numbers, default=-1) + 1)

    def ask(self) -> Proposal | None:
        """Propose the next training."""
        trial, nth = next(self._left, (None, 0))
        if trial is None:
            return None
        spec = self._specs[trial]
        return Proposal(
            number=next(self._numbers),
            point={name: getattr(spec, name) for name in self._settings.space.dimensions},
            seed=confirm_seed(self._settings.seed, nth),
            facts={"trial": trial, "nth_seed": nth},
        )

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Do nothing: the journal has it."""

    def should_prune(self, number: int) -> bool:
        """Return False: a mean over only the seeds that did well would be too good."""
        del number
        return False

    def tell(self, record: TrialRecord) -> None:
        """Do nothing: the journal has it."""
