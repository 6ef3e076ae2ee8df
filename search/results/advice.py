"""Baselines and warnings shown beside a result; each warning has the next step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmsearch.counts import counted
from mmsearch.errors import MMSearchError
from mmsearch.model.spec import MAX_SIZE
from mmsearch.search.study.space import Range
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.journal.records import n_finished, ranked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mmsearch.search.results.selection import Confirmation, Plan
    from mmsearch.search.study.space import Dimension, Space
    from mmsearch.tracking.journal.baselines import Baselines
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord

EDGE = 0.01
"""Share of a range, on its search scale, within which a value counts as at the edge."""
_MIN_VALUES = 3
"""Values of an integer range below which the best is always at an edge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What is shown beside the best of a search or a confirmation."""

    baselines: Baselines | None
    """The study's baselines; None if they are not computed yet or their file is damaged."""
    warnings: Sequence[str]
    """Warnings, a sentence each."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        baselines = None if self.baselines is None else self.baselines.to_json()
        return {"baselines": baselines, "warnings": list(self.warnings)}


def known_baselines(journal: Journal) -> Advice:
    """Read a study's baselines; a damaged file becomes a warning."""
    try:
        return Advice(baselines=journal.read_baselines(), warnings=())
    except MMSearchError as error:
        return Advice(baselines=None, warnings=(str(error),))


def search_advice(journal: Journal, records: Sequence[TrialRecord], space: Space) -> Advice:
    """Return baselines and warnings for the best trial of a search.

    Args:
        journal: the study's journal.
        records: all its trials.
        space: the search space.
    """
    known = known_baselines(journal)
    return Advice(
        baselines=known.baselines,
        warnings=(
            *known.warnings,
            *search_warnings(records, known.baselines, space, options_of(journal)),
        ),
    )


def confirmation_advice(journal: Journal, confirmation: Confirmation, space: Space) -> Advice:
    """Return baselines and warnings for the winner of a confirmation.

    Args:
        journal: the study's journal.
        confirmation: the confirmation.
        space: the search space.
    """
    known = known_baselines(journal)
    warnings = list(known.warnings)
    winner = confirmation.winner
    if winner is not None:
        name = f"{winner.trial.name}, by its mean over {counted(len(winner.repeats), 'seed')},"
        warnings += _against(name, winner.mean, winner.best, known.baselines)
        warnings += _lonely(confirmation.plan)
        warnings += _edges(winner.trial, space)
        warnings += _ends(winner.best, "confirm with more --steps")
    return Advice(baselines=known.baselines, warnings=tuple(warnings))


def search_warnings(
    records: Sequence[TrialRecord], baselines: Baselines | None, space: Space, where: str
) -> list[str]:
    """Return warnings about a search's best trial.

    Args:
        records: all trials of the study.
        baselines: the study's baselines; None if they are unknown.
        space: the search space.
        where: the options that select the study.
    """
    complete = ranked(records)
    if not complete:
        return []
    best = complete[0]
    warnings: list[str] = []
    if best.dev_loss is not None:
        warnings += _against(best.name, best.dev_loss, best, baselines)
    if len(complete) == 1:
        n_more = n_finished(records) + 10
        warnings.append(
            f"only {best.name} is complete, so there is nothing to compare it with; continue with: "
            f"mmsearch run --trials {n_more}{where}"
        )
    elif all(dimension.is_fixed for dimension in space.dimensions.values()):
        warnings.append(
            "every hyperparameter is fixed, so there was nothing to search: the trials differ by "
            "their seeds alone; write a range into [space] of a new --study"
        )
    return [
        *warnings,
        *_edges(best, space),
        *_ends(best, "more --steps in a new --study may lower it further"),
    ]


def _lonely(plan: Plan) -> Iterable[str]:
    """Yield a warning if a confirmation had nothing to compare."""
    if len(plan.trials) == 1:
        remedy = "confirm more with --top" if plan.top == 1 else "search more --trials first"
        yield (
            f"trial {plan.trials[0]} was the only candidate, so there was nothing to compare it "
            f"with; {remedy}"
        )
    if plan.n_seeds == 1:
        yield "one fresh seed shows no spread between seeds; confirm with more --seeds"


def _against(
    name: str, loss: float, trial: TrialRecord, baselines: Baselines | None
) -> Iterable[str]:
    """Yield a warning if a dev loss does not beat a baseline."""
    if baselines is None:
        return
    remedy = _remedy(trial)
    if loss >= baselines.bigram:
        yield (
            f"{name} has dev loss {loss:.4f} and does not beat bigram counts, "
            f"{baselines.bigram:.4f}; final-test would refuse it: {remedy}"
        )
    elif loss >= baselines.ngram:
        yield (
            f"{name} has dev loss {loss:.4f} and does not beat the n-gram, "
            f"{baselines.ngram:.4f}, which needs no training: {remedy}"
        )


def _remedy(trial: TrialRecord) -> str:
    """Return what may lower a trial's dev loss, depending on where its curve was lowest."""
    lowest = trial.best
    if lowest is None or lowest is trial.curve[-1]:
        return "search more --trials, or a new --study with more --steps or a wider [space]"
    if lowest is trial.scored:
        return "search a new --study with weight_decay in [space]"
    return (
        f"the dev loss was {lowest.dev_loss:.4f} at step {lowest.step:,} and rose later, so search "
        "a new --study with fewer --steps, or with weight_decay in [space]"
    )


def _edges(trial: TrialRecord, space: Space) -> Iterable[str]:
    """Yield a warning for each hyperparameter of a trial at the edge of its range."""
    for name, dimension in space.dimensions.items():
        value = getattr(trial.spec, name)
        edge = _edge(value, dimension)
        if edge:
            yield (
                f"{name} of {trial.name}, {value:.4g}, is at the {edge} edge of its "
                f"range ({dimension}); widen [space] {name} in a new --study"
            )


def _edge(value: Any, dimension: Dimension) -> str:
    """Return `lower` or `upper` if a value is at that edge of a range that can be widened."""
    if not isinstance(dimension, Range):
        return ""
    low, high = dimension.low, dimension.high
    is_small = dimension.is_int and high - low + 1 < _MIN_VALUES
    if dimension.is_fixed or is_small or not isinstance(value, int | float):
        return ""
    if dimension.log and value <= 0:  # outside of the range
        return ""
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    position = (value - low) / (high - low)
    # No size is below 1, and no weight decay below 0.
    if position <= EDGE and dimension.low > (1 if dimension.is_int else 0):
        return "lower"
    if position >= 1 - EDGE and not (dimension.is_int and dimension.high >= MAX_SIZE):
        return "upper"
    return ""


def _ends(trial: TrialRecord, if_last: str) -> Iterable[str]:
    """Yield a warning if a trial's dev loss is lowest at its first or last evaluation."""
    lowest = trial.best
    if lowest is None or len(trial.curve) == 1:
        return
    if lowest is trial.curve[0]:
        yield (
            f"the dev loss of {trial.name} is lowest at its first evaluation, step "
            f"{lowest.step:,}; in a new --study, search lower learning rates in [space], or "
            "evaluate earlier with more segments in [training]"
        )
    elif lowest is trial.curve[-1]:
        yield (
            f"the dev loss of {trial.name} is lowest at its last evaluation, step "
            f"{lowest.step:,}; {if_last}"
        )
