"""The record of a trial: its spec, its curve and its outcome; and statistics over many trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping  # noqa: TC003 (msgspec looks the types of fields up)
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from mmsearch.counts import counted
from mmsearch.errors import InputError
from mmsearch.model.curve import CurvePoint  # noqa: TC001 (likewise)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mmsearch.model.spec import TrialSpec


class TrialState(StrEnum):
    """The state of a trial, by Optuna's names, best first."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    RUNNING = "RUNNING"
    FAIL = "FAIL"


Failure = Literal["diverged", "worker_died", "error"]
"""Why a trial failed: its loss diverged, its worker process died, or it raised an error."""
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class SegmentRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a trial's curve: a dev evaluation and the training before it."""

    segment: _Count
    """Number of the segment, counted from 1."""
    step: _Count
    """Optimizer steps done when the segment ended."""
    train: tuple[CurvePoint, ...]
    """Minibatch losses of the segment."""
    dev_loss: float
    """Loss on dev of the scored weights at the end of the segment, in nats per character."""
    wall_s: float
    """Seconds of training and scoring."""
    ended_ms: _Count
    """Unix time of the end, in milliseconds."""
    weights_sha256: str
    """SHA-256 of the weights file at the end."""
    train_loss: float | None = None
    """Loss of the same weights on a fixed part of train, as many words as dev has, in nats per
    character; None in records of version 0.1."""
    dev_parts: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Loss of the same weights on parts of dev: `half_1` and `half_2`; and, where repeated words
    were kept, `in_train` for words that also stand in train and `not_in_train` for the others."""

    @property
    def latest_train_loss(self) -> float:
        """The train loss; in records of version 0.1, that of the last minibatches."""
        return self.train[-1].loss_nats if self.train_loss is None else self.train_loss


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a trial ended."""

    state: TrialState
    """COMPLETE, PRUNED or FAIL."""
    reason: str = ""
    """Why the trial was pruned or failed; empty for COMPLETE."""
    failure: Failure | None = None
    """Kind of the failure; None unless the state is FAIL."""
    ended_ms: int
    """Unix time of the end, in milliseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """Everything that the journal knows about one trial."""

    number: int
    """Optuna's trial number."""
    spec: TrialSpec
    """Hyperparameters, seed, recipe and budget."""
    facts: Mapping[str, Any]
    """What else is known at the start: `started_ms`, `n_parameters`, `versions`; for a
    confirmation also `trial`, the trial that it repeats, and `nth_seed`, counted from 1; for an
    extension also `parent_trial`, the trial whose weights it goes on from."""
    curve: Sequence[SegmentRecord] = field(default=())
    """The segments that have ended, in order."""
    outcome: Outcome | None = None
    """None while the trial runs."""
    excluded: str = ""
    """Why somebody excluded the trial from the choice of a model; empty if nobody did."""

    @property
    def name(self) -> str:
        """Name of the trial in messages."""
        if self.is_repeat:
            return f"trial {self.facts['trial']}, seed {self.facts['nth_seed']}"
        if self.is_extension:
            return f"extension {self.number} of trial {self.facts['parent_trial']}"
        return f"trial {self.number}"

    @property
    def is_repeat(self) -> bool:
        """Whether the trial confirms another one from a fresh seed."""
        return "nth_seed" in self.facts

    @property
    def is_extension(self) -> bool:
        """Whether the trial goes on from the weights of another one."""
        return "parent_trial" in self.facts

    @property
    def is_searched(self) -> bool:
        """Whether the trial is one of the search, and not derived from another one."""
        return not (self.is_repeat or self.is_extension)

    @property
    def state(self) -> TrialState:
        """The state; RUNNING for a trial without an outcome, whether or not a process trains it."""
        return self.outcome.state if self.outcome else TrialState.RUNNING

    @property
    def is_complete(self) -> bool:
        """Whether the trial trained to its end and has a score."""
        return self.state == TrialState.COMPLETE

    @property
    def divergence(self) -> str:
        """The reason of a failure by divergence; empty for any other trial."""
        is_diverged = self.outcome is not None and self.outcome.failure == "diverged"
        return self.outcome.reason if self.outcome is not None and is_diverged else ""

    @property
    def scored(self) -> SegmentRecord | None:
        """The segment whose weights are the model; None before the first one.

        A trial with `patience` keeps its best weights; one without keeps the last.
        """
        return self.best if self.spec.patience else next(reversed(self.curve), None)

    @property
    def dev_loss(self) -> float | None:
        """Dev loss of the model in nats per character: the score of a complete trial."""
        return self.scored.dev_loss if self.scored else None

    @property
    def best(self) -> SegmentRecord | None:
        """The segment with the lowest dev loss, the first of equals."""
        return min(self.curve, key=lambda record: record.dev_loss, default=None)

    @property
    def wall_s(self) -> float:
        """Seconds of training and scoring."""
        return sum(record.wall_s for record in self.curve)

    @property
    def steps_per_s(self) -> float | None:
        """Optimizer steps per second, scoring on dev included; None before the first segment."""
        return self.curve[-1].step / self.wall_s if self.wall_s > 0 else None

    @property
    def rank(self) -> tuple[int, bool, float, int]:
        """Sort key that puts the best first: by state, then by dev loss, then by number.

        Among those of its state an excluded trial comes last.
        """
        loss = math.inf if self.dev_loss is None else self.dev_loss
        return list(TrialState).index(self.state), bool(self.excluded), loss, self.number


def check_record(record: TrialRecord) -> None:
    """Check that a trial began, trained and ended by the rules of its spec.

    Raises:
        InputError: a fact has the wrong type, or the curve does not fit the spec and the state.
    """
    counts = [record.facts.get(name) for name in ("started_ms", "n_parameters")]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise InputError("started_ms and n_parameters must be non-negative integers")
    if not isinstance(record.facts.get("versions", {}), dict):
        raise InputError("versions must be a JSON object")
    losses = [segment.dev_loss for segment in record.curve]
    has_ended = record.spec.has_ended
    if has_ended(losses[:-1]) or (record.is_complete and not has_ended(losses)):
        raise InputError(
            f"a {record.state} trial of this spec cannot have {counted(len(losses), 'segment')}"
        )


def counts_by_state(trials: Iterable[TrialRecord]) -> Counter[TrialState]:
    """Count the trials in each state."""
    return Counter(trial.state for trial in trials)


def n_finished(trials: Iterable[TrialRecord]) -> int:
    """Count the trials that count towards `--trials`: those that are COMPLETE or PRUNED."""
    counts = counts_by_state(trials)
    return counts[TrialState.COMPLETE] + counts[TrialState.PRUNED]


def ranked(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the complete trials that are not excluded, best first; of equals the earlier one."""
    complete = (trial for trial in trials if trial.is_complete and not trial.excluded)
    return sorted(complete, key=lambda trial: trial.rank)


def best_trial(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """Return the first of `ranked`; None where no trial is complete."""
    return next(iter(ranked(trials)), None)


def latest_ms(trial: TrialRecord) -> int:
    """Return the Unix time of a trial's latest event, in milliseconds."""
    if trial.outcome is not None:
        return trial.outcome.ended_ms
    return trial.curve[-1].ended_ms if trial.curve else int(trial.facts["started_ms"])
