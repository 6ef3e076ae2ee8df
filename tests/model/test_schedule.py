"""Learning-rate schedules follow their formulas, whichever steps are asked for."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.model.schedule import learning_rates
from tests.support.specs import make_spec


def test_step_is_the_articles_cut_to_a_tenth_halfway() -> None:
    spec = make_spec(schedule="step", learning_rate=0.1, n_steps=200_000)

    rates = learning_rates(spec, 0, 200_000)

    assert set(rates[:100_000]) == {0.1}
    assert rates[100_000:] == pytest.approx(0.01)


@pytest.mark.parametrize("n_steps", [10, 999, 20_000])
def test_cosine_is_flat_for_two_fifths_and_then_half_a_cosine(n_steps: int) -> None:
    spec = make_spec(schedule="cosine", learning_rate=0.2, n_steps=n_steps)

    rates = learning_rates(spec, 0, n_steps)

    fallen = [max(0.0, (step / n_steps - 0.4) / 0.6) for step in range(n_steps)]
    expected = [0.2 * (1 + math.cos(math.pi * t)) / 2 for t in fallen]
    assert rates == pytest.approx(np.array(expected), abs=1e-12)


@given(
    schedule=st.sampled_from(["cosine", "step", "constant"]),
    n_steps=st.integers(1, 3000),
    rate=st.floats(1e-6, 1e3),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
)
def test_rates_of_pieces_are_those_of_the_whole(
    schedule: str, n_steps: int, rate: float, cuts: list[int]
) -> None:
    """A resumed trial has the rates of an undisturbed one, to the bit."""
    spec = make_spec(schedule=schedule, n_steps=n_steps, n_segments=1, learning_rate=rate)
    bounds = sorted({0, n_steps, *(cut for cut in cuts if cut < n_steps)})

    whole = learning_rates(spec, 0, n_steps)
    pieces = [learning_rates(spec, a, b) for a, b in pairwise(bounds)]

    assert whole.dtype == np.float64
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    assert (whole > 0).all()
    assert (whole <= rate).all()
    assert (np.diff(whole) <= 0).all()
    assert schedule != "constant" or set(whole) == {rate}
