"""The choice of the model, on dev: the best mean over fresh seeds, else the best trial."""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmsearch.counts import counted
from mmsearch.errors import InputError, RefusedError
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal.files import damaged
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import TrialRecord, TrialState, ranked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mmsearch.model.spec import TrialSpec

# fmt: off
_T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.059, 2.055, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on
"""Student's t: 97.5 % quantiles for 1 to 30 degrees of freedom."""


def t_95(freedom: int) -> float:
    """Return how many standard errors a 95 % interval has on each side.

    Args:
        freedom: degrees of freedom, at least 1; for more than 30 the value for 30 is returned,
            which is larger by at most 0.09.
    """
    return _T_95[min(freedom, len(_T_95)) - 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `mmsearch confirm` was asked to train."""

    top: int
    """Number of trials asked for."""
    trials: tuple[int, ...]
    """Their numbers, best first; fewer than `top` if there were no more."""
    n_seeds: int
    """Number of fresh seeds of each trial."""
    steps: int
    """Optimizer steps of each training."""

    @classmethod
    def read(cls, journal: Journal) -> Plan | None:
        """Read the latest plan; None if there is none.

        Raises:
            JournalError: the file is damaged.
        """
        again = f"move it away, and confirm again with: mmsearch confirm{options_of(journal)}"
        values = journal.read_plan(again)
        if values is None:
            return None
        names = {"top", "trials", "n_seeds", "steps"}
        trials = values.get("trials")
        if set(values) == names and isinstance(trials, list) and trials:
            numbers = [values["top"], values["n_seeds"], values["steps"]]
            if all(type(n) is int for n in (*numbers, *trials)) and min(numbers) >= 1:
                return cls(**{**values, "trials": tuple(trials)})
        path = journal.folder / "confirm.json"
        raise damaged(path, "it is not a plan", again)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values that `read` reads."""
        return {
            "top": self.top,
            "trials": list(self.trials),
            "n_seeds": self.n_seeds,
            "steps": self.steps,
        }

    @property
    def command(self) -> str:
        """The command that runs it, without the options that select the study."""
        return f"mmsearch confirm --top {self.top} --seeds {self.n_seeds} --steps {self.steps}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A trial of the search and its trainings from fresh seeds."""

    trial: TrialRecord
    repeats: tuple[TrialRecord, ...]
    """The complete ones, by seed."""
    n_failed: int
    """Number of trainings that diverged."""

    @property
    def losses(self) -> list[float]:
        """Dev losses by seed, in nats per character."""
        return [record.dev_loss for record in self.repeats if record.dev_loss is not None]

    @property
    def mean(self) -> float:
        """Mean dev loss over the seeds, in nats per character."""
        return statistics.fmean(self.losses)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation of the dev loss over seeds; None for a single seed."""
        return statistics.stdev(self.losses) if len(self.repeats) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean; None for a single seed."""
        return None if self.sd is None else self.sd / math.sqrt(len(self.repeats))

    @property
    def best(self) -> TrialRecord:
        """The training with the lowest dev loss."""
        return ranked(self.repeats)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """A plan and its results so far."""

    plan: Plan
    candidates: tuple[Candidate, ...]
    """The candidates, best mean first; those with failed or missing trainings last."""
    n_missing: int
    """Number of trainings that are not finished yet."""

    @classmethod
    def read(cls, journal: Journal) -> Confirmation | None:
        """Read a study's confirmation; None if none was asked for.

        Raises:
            JournalError: a file is damaged.
        """
        plan = Plan.read(journal)
        if plan is None:
            return None
        ended = [record for record in repeats(journal, plan).values() if record.outcome]
        candidates = []
        for number in plan.trials:
            own = sorted(
                (record for record in ended if record.facts["trial"] == number),
                key=lambda record: record.facts["nth_seed"],
            )
            complete = tuple(record for record in own if record.is_complete)
            candidates.append(
                Candidate(
                    trial=journal.read(number),
                    repeats=complete,
                    n_failed=len(own) - len(complete),
                )
            )
        candidates.sort(
            key=lambda c: (
                bool(c.trial.excluded),
                len(c.repeats) < plan.n_seeds,
                c.mean if c.repeats else 0,
            )
        )
        n_missing = len(plan.trials) * plan.n_seeds - len(ended)
        return cls(plan=plan, candidates=tuple(candidates), n_missing=n_missing)

    @property
    def winner(self) -> Candidate | None:
        """The candidate with the best mean; None until all are trained, or if all failed.

        Excluded candidates do not count.
        """
        first = self.candidates[0]
        if first.trial.excluded:
            return None
        is_whole = not self.n_missing and len(first.repeats) == self.plan.n_seeds
        return first if is_whole else None

    @property
    def lead(self) -> tuple[float, float] | None:
        """How far the winner's mean is below the runner-up's, and the standard error, in nats.

        Computed from the paired differences over the seeds. None without a winner, without a
        runner-up, or with a single seed.
        """
        if self.winner is None or self.plan.n_seeds == 1 or len(self.candidates) == 1:
            return None
        first, second = (candidate.losses for candidate in self.candidates[:2])
        if len(second) < len(first):
            return None
        gaps = [b - a for a, b in zip(first, second, strict=True)]
        return statistics.fmean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))

    @property
    def may_lead_by_chance(self) -> bool | None:
        """Whether the 95 % interval of the lead, by Student's t, contains 0; None without a lead.

        The interval is too optimistic: it assumes two trials that were picked beforehand, but the
        winner was picked by the same seeds.
        """
        if self.lead is None:
            return None
        ahead, error = self.lead
        return ahead <= t_95(self.plan.n_seeds - 1) * error

    @property
    def flattery(self) -> float | None:
        """How much lower the search's best trial scored than its mean over fresh seeds, in nats.

        None if it is not trained yet, failed, or trained for a different number of steps.
        """
        found = next(c for c in self.candidates if c.trial.number == self.plan.trials[0])
        is_alike = found.trial.spec.n_steps == self.plan.steps
        if found.trial.dev_loss is None or len(found.repeats) < self.plan.n_seeds or not is_alike:
            return None
        return found.mean - found.trial.dev_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A chosen model."""

    record: TrialRecord
    journal: Journal
    """The journal that has its weights."""
    why: str
    """Reason for the choice."""
    unsettled: str = ""
    """Why the choice is not final yet, and the next command; empty if it is."""
    winner: Candidate | None = None
    """The winner of the confirmation, which the model is a training of; None without one."""


def confirmations(journal: Journal) -> Journal:
    """Return the journal of a study's trainings from fresh seeds."""
    return Journal(journal.folder, "confirm")


def extensions(journal: Journal) -> Journal:
    """Return the journal of the trainings that go on from the weights of a study's trials."""
    return Journal(journal.folder, "extend")


def read_extensions(journal: Journal) -> list[TrialRecord]:
    """Read the trainings that go on from the weights of a study's trials.

    Raises:
        JournalError: a file is damaged.
    """
    records = extensions(journal).records()
    for record in records:
        if type(record.facts.get("parent_trial")) is not int:
            path = extensions(journal).trial_folder(record.number) / "spec.json"
            raise damaged(path, "it does not name the trial that it goes on from")
    return records


def repeats(journal: Journal, plan: Plan) -> Mapping[tuple[int, int], TrialRecord]:
    """Return the trainings of a plan that have begun, by (trial, nth seed).

    Raises:
        JournalError: a file is damaged.
    """
    found = {}
    for record in confirmations(journal).records():
        trial, nth = record.facts.get("trial"), record.facts.get("nth_seed")
        if not (isinstance(trial, int) and isinstance(nth, int)):
            path = confirmations(journal).trial_folder(record.number) / "spec.json"
            raise damaged(path, "it does not name the trial that it repeats")
        is_asked = trial in plan.trials and nth <= plan.n_seeds
        # PRUNED ones were given up when no plan asked for them; those that failed for another
        # reason than divergence are trained again.
        is_failed = record.state == TrialState.FAIL and not record.divergence
        is_void = record.state == TrialState.PRUNED or is_failed
        if is_asked and record.spec.n_steps == plan.steps and not is_void:
            found[trial, nth] = record
    return found


def leading(records: Sequence[TrialRecord], top: int) -> list[TrialRecord]:
    """Return the best complete trials, best first, and each configuration only once."""
    distinct: dict[TrialSpec, TrialRecord] = {}
    for record in ranked(records):
        distinct.setdefault(dataclasses.replace(record.spec, seed=0), record)
    return list(distinct.values())[:top]


def choose(journal: Journal, number: int | None = None) -> Choice:
    """Choose a study's model: the named trial, else the confirmed one, else the best.

    Raises:
        InputError: there is no such trial, or it has no weights.
        RefusedError: no trial is complete.
        JournalError: a file is damaged.
    """
    if number is not None:
        return _named(journal, number)
    records = journal.records()
    complete = ranked(records)
    if not complete:
        raise RefusedError(
            f"study {journal.name!r} has no complete trial yet; wait for one, or name a trial "
            "with --trial"
        )
    confirmation = Confirmation.read(journal)
    of = f"{len(complete)} complete of {counted(len(records), 'trial')}"
    if confirmation is None:
        return Choice(
            record=complete[0], journal=journal, why=f"lowest dev loss of {of}; not confirmed"
        )
    plan, winner = confirmation.plan, confirmation.winner
    again = f"with: {plan.command}{options_of(journal)}"
    if winner is None:
        unsettled = (
            f"{counted(confirmation.n_missing, 'training is', 'trainings are')} missing in the "
            f"confirmation; go on {again}"
            if confirmation.n_missing
            else "every candidate of the confirmation diverged from some seed or is excluded; "
            "confirm others, or name the model with --trial"
        )
        return Choice(
            record=complete[0],
            journal=journal,
            why=f"lowest dev loss of {of}; not confirmed yet",
            unsettled=unsettled,
        )
    now = [record.number for record in leading(records, plan.top)]
    new = [number for number in now if number not in plan.trials]
    spread = f" ± {winner.sd:.4f}" if winner.sd is not None else ""
    return Choice(
        record=winner.best,
        journal=confirmations(journal),
        why=(
            f"best seed of the best mean, {winner.mean:.4f}{spread} over "
            f"{counted(plan.n_seeds, 'seed')}, of {counted(len(plan.trials), 'candidate')} "
            f"from {of}"
        ),
        unsettled=f"trial {new[0]} is among the best {plan.top} since; confirm again {again}"
        if new
        else "",
        winner=winner,
    )


def find_trial(journal: Journal, number: int) -> TrialRecord:
    """Read a trial by its number.

    Raises:
        InputError: there is no such trial.
        JournalError: a file is damaged.
    """
    if number not in journal.numbers():
        raise InputError(f"study {journal.name!r} has no trial {number}; {_see(journal)}")
    return journal.read(number)


def find_extension(journal: Journal, number: int) -> TrialRecord:
    """Read an extension by its number.

    Raises:
        InputError: there is no such extension.
        JournalError: a file is damaged.
    """
    for record in read_extensions(journal):
        if record.number == number:
            return record
    raise InputError(f"study {journal.name!r} has no extension {number}; {_see(journal)}")


def find_model(journal: Journal, model_sha256: str) -> Choice | None:
    """Return the training whose weights have this SHA-256; None without one."""
    for part in (journal, confirmations(journal)):
        for record in part.records():
            if record.curve and record.curve[-1].weights_sha256 == model_sha256:
                return Choice(record=record, journal=part, why="")
    return None


def _see(journal: Journal) -> str:
    return f"see: mmsearch trials{options_of(journal)}"


def _named(journal: Journal, number: int) -> Choice:
    record = find_trial(journal, number)
    if not record.curve:
        raise InputError(f"trial {number} has no weights yet; {_see(journal)}")
    complete = ranked(journal.records())
    place = [other.number for other in complete].index(number) + 1 if record in complete else 0
    rank = f"number {place} of {len(complete)} complete trials" if place else record.state.lower()
    if record.excluded:
        rank = f"excluded: {record.excluded}"
    return Choice(record=record, journal=journal, why=f"named with --trial; {rank}")
