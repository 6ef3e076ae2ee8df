"""The learning-rate range test: its steps are SGD's, and its suggestion is the valley."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.contexts import Contexts
from mmsearch.model import lr_range
from mmsearch.model.lr_range import Valley, range_losses, rates, smoothed, valley
from mmsearch.model.minibatches import Examples
from mmsearch.model.mlp import init_parameters
from mmsearch.model.training import MAX_IDS_AT_ONCE
from tests.support.plain_training import Watched, train_plainly
from tests.support.specs import make_spec

V = 5
RATES = rates(1e-3, 1.0, 1000)


@pytest.fixture
def train() -> Watched:
    """Draw examples without a pattern."""
    generator = torch.Generator().manual_seed(1)
    contexts = Contexts(
        inputs=torch.randint(V, (50, 3), generator=generator),
        targets=torch.randint(V, (50,), generator=generator),
    )
    return Watched(Examples(contexts, V))


def found_in(*losses: np.ndarray) -> Valley:
    found = valley(RATES, np.stack(losses))
    assert found is not None
    return found


def test_rates_are_evenly_spaced_on_a_log_scale_with_both_ends() -> None:
    assert (RATES[0], RATES[-1]) == (pytest.approx(1e-3), pytest.approx(1.0))
    assert np.diff(np.log(RATES)) == pytest.approx(np.full(999, np.log(1000) / 999))


def test_losses_are_those_of_plain_sgd(train: Watched) -> None:
    spec = make_spec(weight_decay=0.01)
    learning_rates = rates(0.01, 0.5, 30)

    losses = range_losses(spec, learning_rates, train, vocab_size=V)

    start = init_parameters(spec, V, torch.Generator().manual_seed(spec.seed))
    [drawn] = train.drawn
    _, expected = train_plainly(start, drawn, learning_rates.tolist(), weight_decay=0.01)
    assert losses == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [8, 1000, MAX_IDS_AT_ONCE // 9, 1_000_000])
def test_memory_does_not_grow_with_the_steps(train: Watched, batch_size: int) -> None:
    spec = make_spec(batch_size=batch_size, embedding_dim=1, hidden_width=1)

    range_losses(spec, rates(0.01, 0.5, 4), train, vocab_size=V)

    sizes = [each.inputs.shape[0] * batch_size for each in train.drawn]
    assert sum(sizes) == 4 * batch_size
    assert max(sizes) * train.n_ids <= max(MAX_IDS_AT_ONCE, batch_size * train.n_ids)


def test_minibatches_drawn_in_pieces_give_the_same_losses(
    train: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, learning_rates = make_spec(), rates(0.01, 0.5, 30)
    whole = range_losses(spec, learning_rates, train, vocab_size=V)
    monkeypatch.setattr(lr_range, "MAX_IDS_AT_ONCE", 7 * spec.batch_size * train.n_ids)

    assert (range_losses(spec, learning_rates, train, vocab_size=V) == whole).all()

    assert len(train.drawn) == 1 + 5


def test_loss_stays_infinite_once_it_has_diverged(
    train: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = range_losses(make_spec(), rates(0.1, 1e6, 40), train, vocab_size=V)
    assert np.isinf(found[-1])
    assert np.isfinite(found[0])
    assert not np.isnan(found).any()
    # Later losses that would be finite again do not count.
    whole = range_losses(make_spec(), rates(0.01, 0.5, 30), train, vocab_size=V)
    limit = float(np.median(whole))
    monkeypatch.setattr(lr_range, "MAX_LOSS_NATS", limit)

    found = range_losses(make_spec(), rates(0.01, 0.5, 30), train, vocab_size=V)

    assert (found == np.where(np.maximum.accumulate(whole > limit), np.inf, whole)).all()
    assert (whole[np.isinf(found)] <= limit).any()


@given(st.integers(1, 3), st.integers(20, 60), st.integers(0, 59), st.integers(0, 2**32 - 1))
def test_moving_mean_is_infinite_as_soon_as_its_window_meets_divergence(
    n_seeds: int, n_steps: int, n_lost: int, seed: int
) -> None:
    losses = np.random.default_rng(seed).uniform(1, 5, (n_seeds, n_steps))
    losses[0, max(1, n_steps - n_lost) :] = np.inf
    half = max(1, round(0.05 * n_steps)) // 2

    expected = [
        [row[max(0, i - half) : i + half + 1].mean() for i in range(n_steps)] for row in losses
    ]
    assert smoothed(losses) == pytest.approx(np.array(expected))


def test_valley_is_found_where_it_was_put() -> None:
    """The loss falls from 3 to 2 at 0.1 and rises again; the median of the seeds decides."""
    typical = 2 + np.minimum(1, np.abs(np.log10(RATES) + 1))

    found = found_in(typical - 0.1, typical, typical + 0.3)

    assert found.best == pytest.approx(0.1, rel=0.01)
    assert found.best_loss == pytest.approx(2, abs=0.05)
    # Rounded outward to two digits; the moving mean has blunted the tip.
    assert 0.065 <= found.low <= 0.080
    assert 0.12 <= found.high <= 0.16
    diverged = np.where(np.arange(1000) < 100, typical, np.inf)
    assert found_in(typical, diverged, typical) == found_in(typical)


def test_dip_beyond_a_ridge_is_not_of_the_valley() -> None:
    typical = np.full(1000, 3.0)
    typical[200:400], typical[700:900] = 2.05, 2.0

    assert found_in(typical).low > RATES[650]


@given(st.floats(1e-8, 1e3), st.floats(1.5, 100), st.integers(20, 200))
def test_suggestion_holds_the_rate_of_the_lowest_loss(
    low: float, factor: float, n_steps: int
) -> None:
    learning_rates = rates(low, low * factor, n_steps)

    found = valley(learning_rates, (2 + np.linspace(-1, 1, n_steps) ** 2)[None])

    assert found is not None
    assert found.low <= found.best <= found.high
    assert found.low < found.high
