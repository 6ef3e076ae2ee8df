"""By how much the best of many flatters itself, on records whose answer is known."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmsearch.model.curve import CurvePoint
from mmsearch.search.results.optimism import Optimism
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialRecord, TrialState
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from collections.abc import Sequence


def trial(
    number: int, halves: Sequence[tuple[float, float]], state: str = "COMPLETE", patience: int = 3
) -> TrialRecord:
    """Make a trial with these losses on the halves of dev, a pair an evaluation."""
    curve = [
        SegmentRecord(
            segment=n,
            step=100 * n,
            train=(CurvePoint(100 * n, 2.0, 0.1),),
            dev_loss=(first + second) / 2,
            wall_s=1,
            ended_ms=n,
            weights_sha256="0" * 64,
            train_loss=1.9,
            dev_parts={"half_1": first, "half_2": second},
        )
        for n, (first, second) in enumerate(halves, start=1)
    ]
    outcome = Outcome(state=TrialState(state), reason="", ended_ms=9)
    return TrialRecord(
        number=number, spec=make_spec(patience=patience), facts={}, curve=curve, outcome=outcome
    )


def test_optimism_is_what_the_other_half_takes_back() -> None:
    """Worked by hand: each half chooses, the other scores."""
    trials = [
        trial(0, [(2.50, 2.52), (2.20, 2.26), (2.24, 2.21)]),
        trial(1, [(2.40, 2.42), (2.15, 2.29), (2.28, 2.18)]),
    ]
    found = Optimism.of(trials)
    # half_1 chooses 2.15 (2.29 on the other half); half_2 chooses 2.18 (2.28).
    assert found.choice == pytest.approx((2.29 + 2.28) / 2 - (2.15 + 2.18) / 2)
    # Trial 1 scores (2.15 + 2.29) / 2 = 2.22, and trial 0 scores 2.225.
    assert found.evaluation == pytest.approx((2.29 + 2.28) / 2 - (2.15 + 2.18) / 2)
    better = trial(2, [(2.19, 2.20), (2.18, 2.21)])
    found = Optimism.of([*trials, better])
    assert found.choice == pytest.approx((2.29 + 2.28) / 2 - (2.15 + 2.18) / 2)
    assert found.evaluation == pytest.approx((2.21 + 2.19) / 2 - (2.18 + 2.20) / 2)


def test_harder_half_is_no_optimism() -> None:
    """A constant between the halves says nothing of the choice."""
    found = Optimism.of([trial(0, [(2.5, 2.8), (2.2, 2.5), (2.3, 2.6)])])
    assert found.choice == pytest.approx(0)
    assert found.evaluation == pytest.approx(0)


def test_more_choices_flatter_more() -> None:
    """Noise of equal size: the least of many is further below its mean than the least of few."""
    rng = np.random.default_rng(0)
    choices, evaluations = [], []
    for _ in range(20):
        found = Optimism.of([trial(n, rng.normal(2, 0.01, (20, 2)).tolist()) for n in range(50)])
        assert found.choice is not None
        assert found.evaluation is not None
        choices.append(found.choice)
        evaluations.append(found.evaluation)
    # The expected minimum of 1,000 standard normal numbers is -3.24, and that of 20 is -1.87.
    assert np.mean(choices) == pytest.approx(0.0324, abs=0.006)
    assert np.mean(evaluations) < np.mean(choices)


@pytest.mark.parametrize("state", ["PRUNED", "FAIL"])
def test_only_complete_trials_that_chose_take_part(state: str) -> None:
    """What could not become the score cannot flatter it."""
    kept = trial(0, [(2.5, 2.6), (2.2, 2.3)])
    low = [(1.0, 1.5), (1.4, 1.1)]
    expected = Optimism.of([kept])
    assert Optimism.of([kept, trial(1, low, state)]) == expected
    assert Optimism.of([kept, trial(1, low, patience=0)]).choice == expected.choice


def test_records_without_halves_have_no_optimism() -> None:
    """Version 0.1 scored dev as a whole."""
    whole = trial(0, [(2.5, 2.6), (2.2, 2.3)])
    lines = [dataclasses.replace(line, dev_parts={}) for line in whole.curve]
    old = dataclasses.replace(whole, curve=lines)
    nothing = Optimism(choice=None, evaluation=None)
    assert Optimism.of([]) == Optimism.of([old]) == nothing
    assert str(nothing) == ""
    worse = trial(1, [(2.8, 2.9), (2.7, 2.75)])
    mixed = Optimism.of([old, worse])
    assert mixed.choice is not None
    assert mixed.evaluation is None, "the best trial lacks its halves"
