"""By how much the best of many flatters itself, on records whose answer is known."""

import numpy as np
import pytest

from mmsearch.search.results.optimism import Optimism
from tests.support.records import make_trial

FIRST = make_trial(0, [(2.50, 2.52), (2.20, 2.26), (2.24, 2.21)], patience=3)
SECOND = make_trial(1, [(2.40, 2.42), (2.15, 2.29), (2.28, 2.18)], patience=3)
BETTER = make_trial(2, [(2.19, 2.20), (2.18, 2.21)], patience=3)
LOW = [(1.0, 1.5), (1.4, 1.1)]
OF_SECOND = (2.29 + 2.28) / 2 - (2.15 + 2.18) / 2
"""What choosing an evaluation on one half of dev flatters: the first half is lowest where it has
2.15 and the other half 2.29, the second half where it has 2.18 and the first one 2.28."""


def test_optimism_is_what_the_other_half_takes_back() -> None:
    """Worked by hand: each half chooses, the other scores; the evaluation is the best trial's."""
    found = Optimism.of([FIRST, SECOND])
    assert (found.choice, found.evaluation) == pytest.approx((OF_SECOND, OF_SECOND))
    found = Optimism.of([FIRST, SECOND, BETTER])
    of_better = (2.21 + 2.19) / 2 - (2.18 + 2.20) / 2
    assert (found.choice, found.evaluation) == pytest.approx((OF_SECOND, of_better))


def test_harder_half_is_no_optimism() -> None:
    """A constant between the halves says nothing of the choice."""
    found = Optimism.of([make_trial(0, [(2.5, 2.8), (2.2, 2.5), (2.3, 2.6)], patience=3)])
    assert (found.choice, found.evaluation) == pytest.approx((0, 0))


def test_more_choices_flatter_more() -> None:
    """Noise of equal size: the least of many is further below its mean than the least of few."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        noise = [[tuple(pair) for pair in rng.normal(2, 0.01, (20, 2))] for _ in range(50)]
        of = Optimism.of([make_trial(n, pairs, patience=3) for n, pairs in enumerate(noise)])
        assert of.choice is not None
        assert of.evaluation is not None
        found.append((of.choice, of.evaluation))
    choice, evaluation = np.mean(found, axis=0)
    # The expected minimum of 1,000 standard normal numbers is -3.24, and that of 20 is -1.87.
    assert choice == pytest.approx(0.0324, abs=0.006)
    assert evaluation < choice


@pytest.mark.parametrize("state", ["PRUNED", "FAIL"])
def test_only_complete_trials_that_chose_take_part(state: str) -> None:
    """What could not become the score cannot flatter it."""
    expected = Optimism.of([FIRST])
    assert Optimism.of([FIRST, make_trial(1, LOW, state, patience=3)]) == expected
    assert Optimism.of([FIRST, make_trial(1, LOW, patience=0)]).choice == expected.choice


def test_records_without_halves_have_no_optimism() -> None:
    """Version 0.1 scored dev as a whole."""
    old, nothing = make_trial(0, [2.25, 2.2], patience=3), Optimism(choice=None, evaluation=None)
    assert Optimism.of([]) == Optimism.of([old]) == nothing
    assert str(nothing) == ""
    mixed = Optimism.of([old, make_trial(1, [(2.8, 2.9), (2.7, 2.75)], patience=3)])
    assert mixed.choice is not None
    assert mixed.evaluation is None, "the best trial lacks its halves"
