"""Learning rates follow the written formulas, whichever steps are asked for."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.model.schedule import learning_rates
from tests.support.specs import make_spec

SCHEDULES = ("cosine", "step", "constant")


def test_step_is_the_articles_cut() -> None:
    rates = learning_rates(
        make_spec(schedule="step", learning_rate=0.1, n_steps=200_000), 0, 200_000
    )

    assert set(rates[:100_000]) == {0.1}
    assert rates[100_000:] == pytest.approx(0.01)


@pytest.mark.parametrize("n_steps", [10, 999, 20_000])
def test_cosine_is_flat_and_then_half_a_cosine(n_steps: int) -> None:
    rates = learning_rates(
        make_spec(schedule="cosine", learning_rate=0.2, n_steps=n_steps), 0, n_steps
    )

    for step in range(0, n_steps, max(1, n_steps // 100)):
        fallen = max(0.0, (step / n_steps - 0.4) / 0.6)
        assert rates[step] == pytest.approx(0.2 * (1 + math.cos(math.pi * fallen)) / 2, abs=1e-12)
    assert (np.diff(rates) <= 0).all()
    assert 0 < rates[-1] < 0.2 * 10 / n_steps
    half = rates[round(0.7 * n_steps)]
    assert half == pytest.approx(0.1, rel=5 / n_steps)


@given(
    schedule=st.sampled_from(SCHEDULES),
    n_steps=st.integers(1, 3000),
    rate=st.floats(1e-6, 1e3),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
)
def test_pieces_are_the_whole(schedule: str, n_steps: int, rate: float, cuts: list[int]) -> None:
    spec = make_spec(schedule=schedule, n_steps=n_steps, n_segments=1, learning_rate=rate)
    bounds = sorted({0, n_steps, *(cut for cut in cuts if cut < n_steps)})

    whole = learning_rates(spec, 0, n_steps)
    pieces = [learning_rates(spec, a, b) for a, b in pairwise(bounds)]

    assert whole.dtype == np.float64
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    assert (whole > 0).all()
    assert (whole <= rate).all()
