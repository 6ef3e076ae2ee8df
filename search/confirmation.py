"""The best trials trained again from fresh seeds, as the coordinator sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.errors import RefusedError
from mmsearch.model.spec import TrialSpec
from mmsearch.search.coordinator import Proposal
from mmsearch.search.selection import Plan, confirmations, leading, repeats
from mmsearch.tracking.journal import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from mmsearch.search.session import Session
    from mmsearch.search.settings import Settings
    from mmsearch.tracking.journal import Journal, TrialRecord


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

    def done(self) -> list[TrialRecord]:
        """Give the trainings that have ended."""
        found = repeats(self.session.journal, self.plan).values()
        return [record for record in found if record.outcome]

    def n_left(self) -> int:
        """Count the trainings that are left."""
        return len(self.plan.trials) * self.plan.n_seeds - len(self.done())

    def open(self, say: Callable[[str], None]) -> Repeats:
        """Note the plan, and give up what an earlier one began and this one does not want."""
        del say  # nothing is waited for
        self.session.journal.write_plan(self.plan.to_json())
        wanted = {r.number for r in repeats(self.session.journal, self.plan).values()}
        for number in self.journal.numbers():
            if number not in wanted and not self.journal.has_ended(number):
                given_up = Outcome(
                    state="PRUNED",
                    reason="given up: no longer asked for",
                    ended_ms=time.time_ns() // 1_000_000,
                )
                self.journal.finish(number, given_up)
        return Repeats(self.session.journal, self.plan, self.settings)

    def guard(self) -> AbstractContextManager[None]:
        """Do nothing: no database of Optuna's has a part in it."""
        return contextlib.nullcontext()


class Repeats:
    """Proposes each candidate from each seed, once; the journal alone says what has been done."""

    def __init__(self, journal: Journal, plan: Plan, settings: Settings) -> None:
        self._journal = journal
        self._plan = plan
        self._settings = settings

    def counts(self) -> dict[str, int]:
        """Count the ended trainings by state."""
        states = [record.state for record in self._found().values()]
        return {state: states.count(state) for state in ("COMPLETE", "PRUNED", "FAIL")}

    def running(self) -> list[int]:
        """Trainings that were begun and not ended."""
        return sorted(r.number for r in self._found().values() if r.outcome is None)

    def ask(self) -> Proposal | None:
        """Begin the next training: first all candidates from one seed, then from the next."""
        found = self._found()
        for nth in range(1, self._plan.n_seeds + 1):
            for trial in self._plan.trials:
                if (trial, nth) not in found:
                    numbers = confirmations(self._journal).numbers()
                    return self._proposal(max(numbers, default=-1) + 1, trial, nth)
        return None

    def attach(self, number: int) -> Proposal:
        """Take up a training of an earlier process."""
        facts = confirmations(self._journal).read(number).facts
        return self._proposal(number, facts["trial"], facts["nth_seed"])

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Do nothing: the journal has it."""

    def should_prune(self, number: int) -> bool:
        """Say no: a mean over the seeds that did well would flatter."""
        del number
        return False

    def tell(self, number: int, state: str, dev_loss: float | None, reason: str) -> None:
        """Do nothing: the journal has it."""

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    def stop(self) -> None:
        """Do nothing: no call takes long."""

    def _found(self) -> Mapping[tuple[int, int], TrialRecord]:
        return repeats(self._journal, self._plan)

    def _proposal(self, number: int, trial: int, nth: int) -> Proposal:
        spec = TrialSpec.from_json(self._journal.read(trial).spec)
        return Proposal(
            number=number,
            point={name: getattr(spec, name) for name in self._settings.space.dimensions},
            seed=confirm_seed(self._settings.seed, nth),
            facts={"trial": trial, "nth_seed": nth},
        )
